"""Allow only the system calls that decoding needs, with a seccomp filter; every other call fails.

The allowed calls work on memory, on the process's own threads and signals, and on open files. Whatever code runs, it
cannot open or delete files, send data elsewhere, or start, trace or signal processes.
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
"""Offsets in struct seccomp_data, in bytes."""
_CLONE_THREAD, _PROT_EXEC, _PR_SET_NAME, _FIONBIO = 0x00010000, 4, 15, 0x5421
_CLONE3 = 435

_ALLOWED_CALLS = {
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
"""Numbers of the allowed calls on x86-64 and on aarch64, the most frequent first."""


@dataclass(frozen=True)
class _Condition:
    """A condition on an argument of a call; the kernel uses only the lower half, except of pointers.

    Attributes:
        argument: its position, counted from 0.
        code: _EQUAL to the value, or _ANY_BIT of it.
        wanted: whether the comparison must be true or false.
        upper: compare the upper half.
    """

    argument: int
    code: int
    value: int
    wanted: bool = True
    upper: bool = False


def _conditional_calls(process: int) -> dict[tuple[int, int], tuple[_Condition, ...]]:
    """Numbers of the calls that are allowed under conditions, for the process with this id."""
    to_itself = _Condition(0, _EQUAL, process)
    no_program = _Condition(2, _ANY_BIT, _PROT_EXEC, wanted=False)
    null = tuple(_Condition(2, _EQUAL, 0, upper=upper) for upper in (False, True))
    return {
        (9, 222): (no_program,),  # mmap
        (10, 226): (no_program,),  # mprotect
        (56, 220): (_Condition(0, _ANY_BIT, _CLONE_THREAD),),  # clone: threads; some codecs need one
        (62, 129): (to_itself,),  # kill
        (234, 131): (to_itself,),  # tgkill: abort() uses it
        (16, 29): (_Condition(1, _EQUAL, _FIONBIO),),  # ioctl: Python's sockets
        (157, 167): (_Condition(0, _EQUAL, _PR_SET_NAME),),  # prctl: the name of a thread
        (302, 261): (_Condition(0, _EQUAL, 0), *null),  # prlimit64: read its own limits
    }


_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""AUDIT_ARCH, and the index in `_ALLOWED_CALLS`."""


def forbid_system_calls() -> bool:
    """Restrict this process and its future threads irrevocably; False if that is impossible.

    Call `services.decoding.sandbox.linux_privileges.forbid_new_privileges` first.
    """
    machine = _ARCHITECTURES.get(platform.machine()) if sys.platform == "linux" else None
    if machine is None:
        return False
    filters = _filters(*machine)
    code = ctypes.create_string_buffer(b"".join(filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(code)))
    return bool(ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filters(architecture: int, index: int) -> list[bytes]:
    """The filter's instructions (struct sock_filter)."""
    denied, allowed = _step(_RETURN, _ERROR | errno.EPERM), _step(_RETURN, _ALLOWED)
    found = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1), denied, _step(_LOAD, _NUMBER)]
    for numbers in _ALLOWED_CALLS.values():
        if (number := numbers[index]) is not None:
            found += [_step(_EQUAL, number, 0, 1), allowed]
    for call, conditions in _conditional_calls(os.getpid()).items():
        tests = [step for each in conditions for step in (*_test(each), denied)]
        found += [_step(_EQUAL, call[index], 0, len(tests) + 1), *tests, allowed]
    found += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]  # the C library then calls clone
    return [*found, denied]


def _test(condition: _Condition) -> tuple[bytes, bytes]:
    """Skip the next instruction if a condition is met."""
    offset = _ARGUMENTS + 8 * condition.argument + 4 * condition.upper
    met, missed = (1, 0) if condition.wanted else (0, 1)
    return _step(_LOAD, offset), _step(condition.code, condition.value, met, missed)


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """An instruction: code, number of instructions to skip if true and if false, value."""
    return struct.pack("HBBI", code, true, false, value)
