"""What was removed is erased from the disk."""
