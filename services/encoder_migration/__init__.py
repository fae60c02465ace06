"""Replace the encoder without downtime: add another one, fill its vectors, compare, switch, drop the old one."""
