"""Pictures named by URL, read from where the operator allows it."""
