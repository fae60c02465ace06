"""Pictures that lie elsewhere: named by URL in an event, and read from where the operator allows it alone."""
