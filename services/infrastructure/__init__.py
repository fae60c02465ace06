"""What the rest is built on."""
