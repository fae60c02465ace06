"""The command line ``visual-memory``: commands over the API's client, for operators, and the processes."""
