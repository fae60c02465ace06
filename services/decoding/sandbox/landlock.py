"""No file can be opened, changed or deleted any more, no port reached, no other process signalled: Linux's Landlock.

It forbids again what `services.decoding.sandbox.seccomp` forbids, by another part of the kernel, and on every
processor.
"""

import ctypes
import os
import struct
import sys

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""Numbers of the calls, which are the same on all processors."""
_VERSION = 1
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights on files there are, by the version that brought them."""
_PORTS, _SCOPES = 0b11, 0b11
"""To bind and to connect; abstract sockets, and signals."""
_HAS_PORTS, _HAS_SCOPES = 4, 6


def forbid_files() -> bool:
    """Whether it could be done; it holds for ever. `linux_privileges.forbid_new_ones` comes first."""
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    files = (1 << max(number for since, number in _RIGHTS.items() if since <= version)) - 1
    rights = [files, _PORTS * (version >= _HAS_PORTS), _SCOPES * (version >= _HAS_SCOPES)]
    known = rights[: 3 if version >= _HAS_SCOPES else 2 if version >= _HAS_PORTS else 1]
    asked = struct.pack(f"{len(known)}Q", *known)
    ruleset = call(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    if ruleset < 0:
        return False
    try:
        return bool(call(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)
