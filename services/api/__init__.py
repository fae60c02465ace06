"""The HTTP API: translate and delegate; a module for each kind of thing."""
