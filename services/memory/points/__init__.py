"""Images as points of a collection: payloads, filters, vectors, indexes."""
