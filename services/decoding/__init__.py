"""Bytes to pixels, in a sandboxed child process."""
