"""One file out, one file in."""
