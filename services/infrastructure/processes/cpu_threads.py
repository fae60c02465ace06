"""Decide how many threads compute in each process of a machine.

Threads that share one computation wait for each other by spinning (OpenMP), which is efficient only while each has a
core to itself. Next to any other computation they block the cores that the others need: on 2 cores, two encoders with
two threads each embedded 7 pictures a second, two with one thread each 170. So no computation is shared between
threads, and independent ones run concurrently:

- an encoder embeds one batch per core, each in one thread (`services.encoding.micro_batcher.MicroBatcher`);
- decoders are processes with one thread, at most one per core, and only as many as are needed;
- threads that wait for the store, a decoder or a caller are not limited, because they use no core;
- matrix products of numpy may use all cores, since OpenBLAS does not spin for long; where many run concurrently, each
  uses one core (`services.voting.brute_force_neighbours.nearest`).

Work that no caller waits for has the lowest priority: it uses only cores that are idle otherwise.
"""

import os
import sys
import threading
from contextlib import suppress

LOWEST = 19
"""The lowest priority (nice value)."""


def count() -> int:
    """The number of cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_library_threads() -> None:
    """Set the thread counts of OpenMP and OpenBLAS, unless the environment sets them.

    Must be called before numpy and torch are imported, which read the variables then.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(count()))  # OpenBLAS would use the variable above otherwise


def lower_priority() -> None:
    """Give this thread, and the processes that it starts from now on, the lowest CPU priority (Linux only).

    Priorities count among the processes of one session: the kernel shares the cores among sessions first (autogroups),
    so the supervisor starts none.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        with suppress(OSError):  # a container may forbid it; then only the priority is set
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # yields at once, not after its time slice
