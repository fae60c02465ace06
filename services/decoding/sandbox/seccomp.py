"""Of the calls to the kernel only those remain that decoding needs (Linux's seccomp); every other one fails.

What remains works on memory, on the process's own threads and signals, and on what is open already. So nothing can be
opened, deleted, sent elsewhere, started, traced or signalled, whatever code comes to run.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOWED, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where they are in what a filter sees (struct seccomp_data), in bytes."""
_CLONE_THREAD, _PROT_EXEC, _PR_SET_NAME, _FIONBIO = 0x00010000, 4, 15, 0x5421
_CLONE3 = 435

_FREE = {
    "futex": (202, 98),
    "recvfrom": (45, 207),
    "sendto": (44, 206),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "poll": (7, None),
    "ppoll": (271, 73),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getsockopt": (55, 209),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "sysinfo": (99, 179),
    "uname": (63, 160),
}
"""The numbers of what is allowed, on x86-64 and on aarch64; the most frequent ones first."""


@dataclass(frozen=True)
class _Condition:
    """What an argument must be, counted from 0; the kernel looks at its lower half only, but for pointers.

    Attributes:
        code: _EQUAL to the value, or _ANY_BIT of it.
        wanted: whether that must be so, or must not.
    """

    argument: int
    code: int
    value: int
    wanted: bool = True
    upper: bool = False


def _bound(own: int) -> dict[tuple[int, int], tuple[_Condition, ...]]:
    """The same, of what is allowed under conditions to the process of this id."""
    to_itself = _Condition(0, _EQUAL, own)
    no_program = _Condition(2, _ANY_BIT, _PROT_EXEC, wanted=False)
    null = tuple(_Condition(2, _EQUAL, 0, upper=upper) for upper in (False, True))
    return {
        (9, 222): (no_program,),  # mmap
        (10, 226): (no_program,),  # mprotect
        (56, 220): (_Condition(0, _ANY_BIT, _CLONE_THREAD),),  # clone: threads, for some codecs need one
        (62, 129): (to_itself,),  # kill
        (234, 131): (to_itself,),  # tgkill: the C library aborts by it
        (16, 29): (_Condition(1, _EQUAL, _FIONBIO),),  # ioctl: Python's sockets
        (157, 167): (_Condition(0, _EQUAL, _PR_SET_NAME),),  # prctl: the name of a thread
        (302, 261): (_Condition(0, _EQUAL, 0), *null),  # prlimit64: its own limits, to be read
    }


_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH, and which of two numbers is its own."""


def forbid_system_calls() -> bool:
    """Whether it could be done; it holds for ever, and for all threads that the process starts.

    `services.decoding.sandbox.linux_privileges.forbid_new_ones` comes first.
    """
    machine = _ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" else None
    if machine is None:
        return False
    filters = _filters(*machine)
    code = ctypes.create_string_buffer(b"".join(filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(code)))
    return bool(ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filters(architecture: int, own: int) -> list[bytes]:
    """Instructions (struct sock_filter)."""
    denied, allowed = _step(_RETURN, _ERROR | errno.EPERM), _step(_RETURN, _ALLOWED)
    found = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1), denied, _step(_LOAD, _NUMBER)]
    for numbers in _FREE.values():
        if (number := numbers[own]) is not None:
            found += [_step(_EQUAL, number, 0, 1), allowed]
    for bound, conditions in _bound(os.getpid()).items():
        tests = [step for each in conditions for step in (*_test(each), denied)]
        found += [_step(_EQUAL, bound[own], 0, len(tests) + 1), *tests, allowed]
    found += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]  # then the C library calls clone
    return [*found, denied]


def _test(condition: _Condition) -> tuple[bytes, bytes]:
    """Skips the next instruction where a condition is met."""
    place = _ARGUMENTS + 8 * condition.argument + 4 * condition.upper
    met, missed = (1, 0) if condition.wanted else (0, 1)
    return _step(_LOAD, place), _step(condition.code, condition.value, met, missed)


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """An instruction: code, how many are skipped where it is true, where it is false, value."""
    return struct.pack("HBBI", code, true, false, value)
