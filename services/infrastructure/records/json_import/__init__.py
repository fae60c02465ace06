"""The records of earlier versions, JSON files, read into the database once."""
