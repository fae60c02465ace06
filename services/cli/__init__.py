"""The command line ``visual-memory``: the same use cases, over the API's client, and the processes themselves."""
