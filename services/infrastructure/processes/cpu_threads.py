"""The one place that decides how many threads compute in each process of a machine.

Threads that share one computation wait for each other by spinning (OpenMP), which pays only while every one of them
has a core to itself. Beside anything else that computes, a decoder, the worker's encoder beside the API's, they take
the cores from whoever would let them go on: on 2 cores, two encoders of two threads each made 7 pictures a second,
two of one thread each 170. So nobody shares a computation; whoever has several things to do does them side by side:

- an encoder works at one batch a core, each in one thread (`services.encoding.micro_batcher.MicroBatcher`);
- decoders are processes of one thread, at most one a core, and only as many as have something to decode;
- threads that wait, for the store, a decoder or a caller, are as many as it takes, because they cost no core;
- matrix products of numpy may use every core, for OpenBLAS does not spin for long; where there are many, each is cut
  into parts of one core (`services.voting.exact_neighbours.nearest`, which is told of how many).

What nobody waits for steps back: it has what all others leave of the cores, and no part of them while they want all.
"""

import os
import sys
import threading
from contextlib import suppress

LOWEST = 19
"""The least of the priorities."""


def count() -> int:
    """The cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_library_threads() -> None:
    """Let the libraries of this process do as said above, unless its environment says otherwise.

    They look when they are imported, so it comes before numpy and torch.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(count()))  # it would heed the one above


def lower_priority() -> None:
    """Let this thread, and the processes that it starts from now on, have only what others leave of the cores.

    On Linux, where each thread has a priority. It holds among the processes of one session: the kernel shares the cores
    among sessions first (autogroups), which is why the supervisor starts none.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        with suppress(OSError):  # where a container forbids it, the priority alone is had
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # gives way at once, not at the end of its slice
