"""Process controls of Linux (prctl): end together with the parent, and forbid tracing."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
"""See prctl(2)."""


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends (Linux only).

    Args:
        parent: the id of the parent process.
        number: the signal.

    Raises:
        SystemExit: the parent has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the parent process has ended")


def forbid_tracing() -> bool:
    """Keep other processes of the same user from reading or writing this one's memory, and core dumps away.

    Covers ptrace, process_vm_writev and /proc/PID/mem, but not root. Not inherited by executed programs.

    Returns:
        whether it could be forbidden (Linux only).
    """
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
