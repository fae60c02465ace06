"""Backups of the first format are not signed: what can be seen of damage is seen before anything is restored."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.backup.open_backup import open_backup
from visual_memory.services.receipts.receipt_signature import ReceiptSigner

BACKUP = Path(__file__).parents[2] / "fixtures" / "data_folder_2" / "backup"
Change = Callable[[str, bytes], bytes | None]


def with_first(kind: str, change: Callable[[bytes], bytes | None]) -> Change:
    """Changes the first member of a kind."""
    seen: list[str] = []

    def changed(name: str, data: bytes) -> bytes | None:
        if not name.startswith(kind) or seen:
            return data
        seen.append(name)
        return change(data)

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_first("pictures/", lambda data: data[:-1] + bytes([data[-1] ^ 1])), "is another than was sent"),
        (with_first("points/", lambda data: json.dumps(json.loads(data)[1:]).encode()), "is damaged"),
        (with_first("points/", lambda data: data[:-1]), "is damaged"),
        (with_first("records/", lambda data: data[:-1]), "is damaged"),
    ],
    ids=["picture", "image", "page", "record"],
)
def test_what_is_damaged_is_not_restored(change: Change, says: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with tarfile.open(BACKUP) as old, tarfile.open(file, "w") as new:
        for member in old:
            read = old.extractfile(member)
            data = change(member.name, read.read()) if read else None
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    with pytest.raises(InvalidRequest, match=says):
        open_backup(file, ReceiptSigner(bytes(32)), lambda *_: None)


def test_what_is_whole_is_opened() -> None:
    assert not open_backup(BACKUP, ReceiptSigner(bytes(32)), lambda *_: None).is_signed
