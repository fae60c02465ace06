"""Read pictures by URL, from the places that the operator allows."""
