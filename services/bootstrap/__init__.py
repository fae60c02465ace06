"""Build objects from settings: one module for each kind of process, over the modules of `wiring`.

Each process is a context manager. What it opens is closed in reverse order when the context ends, or when a later step
of its wiring fails.
"""
