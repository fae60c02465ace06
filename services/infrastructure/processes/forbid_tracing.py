"""No other process of the same user may read or write this one's memory, nor does a crash write it to the disk."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def forbid_tracing() -> bool:
    """Whether it could be forbidden (Linux alone can do that); a program that the process runs begins anew.

    It holds against ptrace, process_vm_writev and /proc/PID/mem, but not against root.
    """
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
