"""Give up a process's privileges irrevocably: new privileges, the user namespace, capabilities."""

import ctypes
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522


def forbid_new_privileges() -> bool:
    """Deny further privileges to all programs that the process executes; False if that is impossible."""
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def enter_new_user_namespace() -> bool:
    """Give up all rights in the namespaces of other processes, even as root; False if the system forbids it.

    Containers often forbid it. The process must have a single thread.
    """
    return sys.platform == "linux" and bool(ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0)


def drop_capabilities() -> bool:
    """Drop all of root's capabilities; False if that is impossible."""
    if sys.platform != "linux":
        return False
    header, none = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    return bool(ctypes.CDLL(None).capset(header, none) == 0)
