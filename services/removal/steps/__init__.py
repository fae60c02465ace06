"""The steps of a removal: mark, remove from the intake, delete, verify, seal."""
