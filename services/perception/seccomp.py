"""No process can be started any more, though threads can (Linux's seccomp): a codec that needs a thread still works.

A limit of processes (RLIMIT_NPROC) counts threads too, and holds for nobody who is root.
"""

import ctypes
import errno
import platform
import struct
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP, _MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOWED, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Where they are in what a filter sees (struct seccomp_data), in bytes."""
_CLONE_THREAD = 0x00010000
_CLONE3 = 435
_FOREIGN = 0x40000000
"""Bit of the calls of x32, which have numbers of their own."""


@dataclass(frozen=True)
class _Machine:
    """Numbers of its kind of processor.

    Attributes:
        architecture: AUDIT_ARCH.
        clone: of the call that starts threads, and processes too.
        starts: of the calls that start processes, or make another program of this one.
    """

    architecture: int
    clone: int
    starts: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 56, (57, 58, 59, 322)),
    "aarch64": _Machine(0xC00000B7, 220, (221, 281)),
}


def forbid_processes() -> bool:
    """Whether it could be forbidden; it holds for ever, and for all that the process starts.

    On every Linux no program that it runs has further rights from then on.
    """
    if sys.platform != "linux":
        return False
    control = ctypes.CDLL(None).prctl
    control(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    filters = _filters(machine)
    code = ctypes.create_string_buffer(b"".join(filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(code)))
    return bool(control(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filters(machine: _Machine) -> list[bytes]:
    """Instructions (struct sock_filter): code, how many are skipped where it is true, where it is false, value."""

    def step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    denied, again = step(_RETURN, _ERROR | errno.EPERM), step(_RETURN, _ERROR | errno.EAGAIN)
    return [
        *(step(_LOAD, _ARCHITECTURE), step(_EQUAL, machine.architecture, 1), denied),
        *(step(_LOAD, _NUMBER), step(_AT_LEAST, _FOREIGN, 0, 1), denied),
        *(part for number in machine.starts for part in (step(_EQUAL, number, 0, 1), again)),
        *(step(_EQUAL, _CLONE3, 0, 1), step(_RETURN, _ERROR | errno.ENOSYS)),  # then the C library calls clone
        *(step(_EQUAL, machine.clone, 1), step(_RETURN, _ALLOWED)),
        *(step(_LOAD, _FIRST_ARGUMENT), step(_ANY_BIT, _CLONE_THREAD, 1), again, step(_RETURN, _ALLOWED)),
    ]
