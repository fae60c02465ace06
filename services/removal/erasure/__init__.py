"""Erase the bytes of removed data from disks."""
