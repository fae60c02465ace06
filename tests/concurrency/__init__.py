"""Schedules of overlapping work of real code: each actor stops before each of its writes, and a test picks the next."""
