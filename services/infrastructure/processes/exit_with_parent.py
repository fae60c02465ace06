"""A process that ends with the one that started it, however that ends."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


def end_with(parent: int, number: signal.Signals) -> None:
    """Be sent a signal when the thread of our parent ends that started us (Linux alone can do that).

    Args:
        parent: its process.
        number: of the signal.

    Raises:
        SystemExit: it was gone before this was asked for.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
