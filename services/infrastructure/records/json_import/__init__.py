"""Import the JSON records of earlier versions into the database, once."""
