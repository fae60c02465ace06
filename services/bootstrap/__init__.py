"""The only place where objects are built from settings: a module for each kind of process, over the `wire_` modules.

Each process is a context: what it has opened is closed in reverse order when the context ends, and as well where a
later step of its wiring fails.
"""
