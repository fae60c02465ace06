"""What a process may do beyond what its user may: given up for ever."""

import ctypes
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522


def forbid_new_privileges() -> bool:
    """Let no program that the process runs have further rights; whether that could be done."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def enter_new_user_namespace() -> bool:
    """Be nobody to all other processes' namespaces, even as root; not where the system or a container forbids it.

    The process must have one thread.
    """
    return sys.platform == "linux" and bool(ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0)


def drop_capabilities() -> bool:
    """Have none of root's rights any more; whether that could be done."""
    if sys.platform != "linux":
        return False
    header, none = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    return bool(ctypes.CDLL(None).capset(header, none) == 0)
