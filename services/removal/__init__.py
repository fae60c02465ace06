"""Remove images, from the request to the receipt: mark, record, delete, verify, seal."""
