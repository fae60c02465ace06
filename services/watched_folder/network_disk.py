"""Detect folders on network file systems, whose changes the kernel does not report."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|fuse(?!blk).*|9p|virtiofs|vboxsf|ceph|glusterfs|lustre|afs|ncpfs|beegfs.*"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_remote(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Return whether a folder must be polled for changes; False if its file system is unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    resolved, longest, kind = folder.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), before.split()[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= longest:  # the last mount on a mount point counts
            longest, kind = len(point.parts), after.split()[0]
    return _REMOTE.fullmatch(kind) is not None
