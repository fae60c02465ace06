"""Deny access to files, ports and the signals of other processes with Linux's Landlock.

A second line of defence to `services.decoding.sandbox.seccomp`: another part of the kernel, and available on every
processor architecture.
"""

import ctypes
import os
import struct
import sys

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""System call numbers, which are the same on all architectures."""
_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of rights on files since each version of Landlock."""
_PORTS, _SCOPES = 0b11, 0b11
"""Bind and connect; abstract sockets and signals."""
_PORTS_SINCE, _SCOPES_SINCE = 4, 6


def forbid_files() -> bool:
    """Restrict this process irrevocably; False if that is impossible.

    Call `linux_privileges.forbid_new_privileges` first.
    """
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    files = (1 << max(number for since, number in _FILE_RIGHTS.items() if since <= version)) - 1
    rights = [files, _PORTS * (version >= _PORTS_SINCE), _SCOPES * (version >= _SCOPES_SINCE)]
    known = rights[: 3 if version >= _SCOPES_SINCE else 2 if version >= _PORTS_SINCE else 1]
    attributes = struct.pack(f"{len(known)}Q", *known)
    ruleset = call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        return bool(call(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
