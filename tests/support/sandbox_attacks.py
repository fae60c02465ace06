"""What a decoder's process does once a picture has made it run code of its own: all that it should not be able to."""

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header

WORK = "tests.support.sandbox_attacks:work"
AT_FDCWD, X32 = -100, 0x40000000
CALLS = {
    "open": 2, "clone": 56, "execve": 59, "kill": 62, "rename": 82, "mkdir": 83, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "ptrace": 101, "setuid": 105, "prctl": 157, "chroot": 161, "mount": 165, "socket": 41,
    "socketpair": 53, "truncate": 76, "shmget": 29, "tgkill": 234, "openat": 257, "unlinkat": 263, "unshare": 272,
    "memfd_create": 319, "execveat": 322, "userfaultfd": 323, "bpf": 321, "perf_event_open": 298, "prlimit64": 302,
    "process_vm_readv": 310, "process_vm_writev": 311, "setns": 308, "io_uring_setup": 425, "pidfd_open": 434,
    "clone3": 435, "pidfd_send_signal": 424, "openat2": 437, "rt_sigqueueinfo": 129, "sched_setaffinity": 203,
    "setpriority": 141, "keyctl": 250, "mmap": 9, "mprotect": 10, "stat": 4, "readlink": 89, "sendmsg": 46,
}  # fmt: skip
"""Numbers on x86-64."""
BY_NAME = (
    "openat", "creat", "unlink", "unlinkat", "rename", "truncate", "mkdir", "link", "symlink",
    "parent's memory as file", "process_vm_readv", "process_vm_writev", "ptrace", "kill", "tgkill", "stop",
)  # fmt: skip
"""Those that a kernel without a filter of system calls must refuse too."""


@dataclass(frozen=True)
class Target:
    """What is attacked: a file, its parent's process, and bytes in that one's memory."""

    file: str
    process: int
    address: int
    length: int


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
_here = ctypes.create_string_buffer(4096)


def call(name: str, *arguments: Any, also: int = 0) -> int:
    """A call to the kernel, past all libraries; its error's number, 0 where it was done."""
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(CALLS[name] | also), *given) == -1 else 0


def attacks(target: Target) -> dict[str, Callable[[], int]]:
    file, process, span = target.file.encode(), target.process, ctypes.byref
    theirs, ours = _Span(target.address, target.length), _Span(ctypes.addressof(_here), target.length)

    def memory_as_file() -> int:
        return call("openat", AT_FDCWD, f"/proc/{process}/mem".encode(), os.O_RDWR)

    def fork() -> int:
        if (failed := call("clone", signal.SIGCHLD, 0, 0, 0, 0)) or os.getpid() == own:
            return failed
        os._exit(0)

    own = os.getpid()
    return {
        "open": lambda: call("open", file, os.O_RDONLY),
        "openat": lambda: call("openat", AT_FDCWD, file, os.O_WRONLY),
        "openat2": lambda: call("openat2", AT_FDCWD, file, bytes(24), 24),
        "creat": lambda: call("creat", file + b".new", 0o600),
        "unlink": lambda: call("unlink", file),
        "unlinkat": lambda: call("unlinkat", AT_FDCWD, file, 0),
        "rename": lambda: call("rename", file, file + b".new"),
        "truncate": lambda: call("truncate", file, 0),
        "chmod": lambda: call("chmod", file, 0o777),
        "mkdir": lambda: call("mkdir", file + b".folder", 0o700),
        "link": lambda: call("link", file, file + b".link"),
        "symlink": lambda: call("symlink", file, file + b".link"),
        "stat": lambda: call("stat", file, _here),
        "readlink": lambda: call("readlink", f"/proc/{process}/exe".encode(), _here, 100),
        "parent's memory as file": memory_as_file,
        "process_vm_readv": lambda: call("process_vm_readv", process, span(ours), 1, span(theirs), 1, 0),
        "process_vm_writev": lambda: call("process_vm_writev", process, span(ours), 1, span(theirs), 1, 0),
        "ptrace": lambda: call("ptrace", 16, process, 0, 0),
        "ptrace seize": lambda: call("ptrace", 0x4206, process, 0, 0),
        "kill": lambda: call("kill", process, 0),
        "stop": lambda: call("kill", process, signal.SIGCONT),
        "everybody": lambda: call("kill", -1, signal.SIGCONT),
        "tgkill": lambda: call("tgkill", process, process, signal.SIGCONT),
        "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", process, signal.SIGCONT, _here),
        "pidfd_open": lambda: call("pidfd_open", process, 0),
        "pidfd_send_signal": lambda: call("pidfd_send_signal", 0, 0, None, 0),
        "prlimit64": lambda: call("prlimit64", process, 7, bytes(16), None),
        "own limits": lambda: call("prlimit64", 0, 7, bytes(16), None),
        "sched_setaffinity": lambda: call("sched_setaffinity", process, 8, b"\1" + bytes(7)),
        "setpriority": lambda: call("setpriority", 0, process, 10),
        "socket": lambda: call("socket", 2, 1, 0),
        "unix socket": lambda: call("socket", 1, 1, 0),
        "socketpair": lambda: call("socketpair", 1, 1, 0, _here),
        "sendmsg": lambda: call("sendmsg", 0, _here, 0),
        "fork": fork,
        "fork as x32": lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0, also=X32),
        "clone3": lambda: call("clone3", bytes(64), 64),
        "execve": lambda: call("execve", b"/bin/true", None, None),
        "execveat": lambda: call("execveat", AT_FDCWD, b"/bin/true", None, None, 0),
        "code": lambda: call("mmap", 0, 4096, 7, 0x22, -1, 0),
        "code made of data": lambda: call("mprotect", ctypes.addressof(_here) & ~4095, 4096, 7),
        "memfd_create": lambda: call("memfd_create", b"x", 0),
        "shmget": lambda: call("shmget", 1, 4096, 0o1600),
        "io_uring_setup": lambda: call("io_uring_setup", 1, bytes(120)),
        "userfaultfd": lambda: call("userfaultfd", 0),
        "bpf": lambda: call("bpf", 0, bytes(120), 120),
        "perf_event_open": lambda: call("perf_event_open", bytes(120), 0, -1, -1, 0),
        "keyctl": lambda: call("keyctl", 0, -3, 0, 0, 0),
        "unshare": lambda: call("unshare", 0x10000000),
        "setns": lambda: call("setns", 0, 0),
        "chroot": lambda: call("chroot", b"/"),
        "mount": lambda: call("mount", b"x", b"/tmp", b"tmpfs", 0, None),
        "setuid": lambda: call("setuid", 0),
        "open to tracing": lambda: call("prctl", 4, 1, 0, 0, 0),
    }


def try_all(target: Target, names: tuple[str, ...] = ()) -> dict[str, str]:
    """What became of each: the name of its error, or "done"."""
    found = {name: attack() for name, attack in attacks(target).items() if not names or name in names}
    return {name: errno.errorcode[number] if number else "done" for name, number in found.items()}


def work(asked: Header, picture: bytes, limits: PictureLimits) -> tuple[dict[str, Any], bytes]:
    return {"told": try_all(Target(**asked["target"]))}, b""
