"""Back up a whole service into one file, and restore it."""
