"""Tests by package and by what they use, each process of which computes in the threads that the service's have."""

from visual_memory.services.infrastructure.processes import cpu_threads

cpu_threads.limit_library_threads()  # before numpy and torch are imported
