"""The audit log: one line of JSON for each deed, in a file that the processes of a machine share.

A line is written after its deed and before the answer, so what was answered is in the log; a crash in between leaves
a deed without its line (a removal still has its own record). It names keys, requests and removals, and nothing of an
image, because it outlives removals.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.audit import AuditLine
from schemas.errors import Unavailable, VisualMemoryError
from schemas.image import now

BLOCK = 64 * 1024
BEGINNING = b'{"at": '
"""How each line begins, and what no string in it can hold, for its quotes would be escaped."""


class Audit:
    """The log in one file; each line is one write at its end, and on the disk when the call returns.

    Args:
        path: the file, for this user alone; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, tenant: str, by: str, action: str, **said: Any) -> None:
        """Write a line; `said` are further fields of `AuditLine`.

        Raises:
            Unavailable: it could not be written.
        """
        line = AuditLine(at=now(), tenant=tenant, by=by, action=action, **said)
        text = json.dumps(line.model_dump(mode="json", exclude_none=True)) + "\n"
        try:
            self._append(text.encode())
        except OSError as error:
            raise Unavailable(f"done, but not written to the audit log: {error.strerror}") from error

    @contextmanager
    def deed(self, tenant: str, by: str, action: str, **said: Any) -> Iterator[dict[str, Any]]:
        """Write a line when the block ends: with what it added to the dictionary, or with the code of its error."""
        try:
            yield said
        except Exception as error:
            outcome = error.code if isinstance(error, VisualMemoryError) else VisualMemoryError.code
            self.write(tenant, by, action, **{**said, "outcome": outcome})
            raise
        self.write(tenant, by, action, **said)

    def latest(self, tenant: str, limit: int) -> list[AuditLine]:
        """The last lines of a tenant, the latest first."""
        found: list[AuditLine] = []
        named = f'"{tenant}"'.encode()
        for text in self._backwards():
            line = _parsed(text) if named in text else None  # those of others cost a look
            if line is not None and line.tenant == tenant:
                found.append(line)
            if len(found) == limit:
                break
        return found

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)

    def _backwards(self) -> Iterator[bytes]:
        """The lines from the last to the first, read block by block."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            place, rest = file.seek(0, os.SEEK_END), b""
            while place:
                size = min(BLOCK, place)
                place = file.seek(place - size)
                rest, *lines = (file.read(size) + rest).split(b"\n")
                yield from reversed(lines)
        yield rest


def _parsed(text: bytes) -> AuditLine | None:
    """A line, without what a full disk cut off before it; None where there is none."""
    try:
        return AuditLine.model_validate_json(text[max(0, text.rfind(BEGINNING)) :])
    except ValidationError:
        return None
