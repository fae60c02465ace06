"""Decode pictures into pixels, in a sandboxed child process."""
