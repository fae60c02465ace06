"""Read pictures by URL, from hosts, folders and stores that the operator allows."""
