"""Store decisions, explain them, and take removed images out of them."""
