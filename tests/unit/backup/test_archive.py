"""A backup's file comes back as it was made, or is refused."""

import stat
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.backup.archive_format import (
    MANIFEST,
    ArchivedPicture,
    Manifest,
    PointPage,
    TableRows,
)
from visual_memory.services.backup.archive_reader import ArchiveReader
from visual_memory.services.backup.archive_writer import create_archive
from visual_memory.services.infrastructure.records.upgrade_schema import HEAD
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.vector_engines.engine_contract import Point

SIGNER = ReceiptSigner(bytes(32))
VECTORS = {"one": 3, "other": 2}
POINTS = [
    Point("a", {"labels": ["cat"], "accepted_at": "2026-01-01T00:00:00+00:00"}, {"one": [0.6, 0.8, 0.0]}),
    Point("b", {"labels": ["Ünïcode/日本"]}, {"one": [1.0, 0.0, 0.0], "other": [0.1, 0.2]}),
    Point("c", {}, {}),
]
PICTURES = [ArchivedPicture("t/1", b"\x00\xff" * 100), ArchivedPicture("t/2", b"")]
ROWS = [{"id": "1", "scopes": ["admin"], "revoked_at": None}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with create_archive(tmp_path / "backup") as archive:
        archive.points(POINTS, VECTORS)
        for picture in PICTURES:
            archive.picture(picture)
        archive.points(POINTS[:1], VECTORS)
        archive.rows("keys", ROWS)
        archive.end(Manifest(begun_at=datetime.now(UTC), vectors=VECTORS, schema_revision=HEAD), SIGNER)
    return tmp_path / "backup"


def test_everything_comes_back_in_its_order(file: Path) -> None:
    archive = ArchiveReader(file, SIGNER)
    first, *pictures, last = archive.images()
    assert isinstance(first, PointPage)
    assert [(point.id, point.payload, sorted(point.vectors)) for point in first.points] == [
        (point.id, point.payload, sorted(point.vectors)) for point in POINTS
    ]
    expected = np.array(POINTS[1].vectors["other"], np.float32)
    assert np.asarray(first.points[1].vectors["other"], np.float32).tobytes() == expected.tobytes()
    assert pictures == PICTURES
    assert isinstance(last, PointPage)
    assert list(archive.rows()) == [TableRows("keys", ROWS)]
    assert archive.manifest.contents.model_dump() == {"points": 4, "pictures": 2, "records": 1}


def test_its_parts_are_parquet_that_others_read(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as members:
        members.extract("points/00000001.parquet", tmp_path)
    table = pq.read_table(tmp_path / "points/00000001.parquet")
    assert table.column_names == ["id", "payload", "one", "other"]


def test_only_this_user_may_read_it(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_changed_byte_anywhere_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    step = max(1, len(whole) // 400)
    noticed = 0
    for place in range(0, len(whole), step):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            archive = ArchiveReader(file, SIGNER)
        except InvalidRequest:
            noticed += 1
            continue
        # what is not noticed changes nothing that is read: dates and the like of the zip itself
        assert [*archive.rows()] == [TableRows("keys", ROWS)]
        assert [each for each in archive.images() if isinstance(each, ArchivedPicture)] == PICTURES
    assert noticed > 300


def test_a_file_that_is_cut_off_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 50)):
        file.write_bytes(whole[:length])
        with pytest.raises(InvalidRequest):
            ArchiveReader(file, SIGNER)


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda parts: (parts.pop(name), None)[1]


def swap(parts: dict[str, bytes]) -> None:
    one, other = "points/00000001.parquet", "points/00000003.parquet"
    parts[one], parts[other] = parts[other], parts[one]


def add(parts: dict[str, bytes]) -> None:
    parts["records/keys/00000009.parquet"] = parts["records/keys/00000004.parquet"]


def sign_by_another(parts: dict[str, bytes]) -> None:
    manifest = SIGNER.read(parts[MANIFEST].decode())
    parts[MANIFEST] = ReceiptSigner(b"1" * 32).sign(manifest.type, manifest.payload).encode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("points/00000003.parquet"), "points/00000003.parquet is missing"),
        (without("records/keys/00000004.parquet"), "is missing"),
        (without(MANIFEST), "it has no manifest"),
        (swap, "was changed"),
        (add, "was added"),
        (sign_by_another, "with the secret of the service that made it"),
    ],
)
def test_what_was_taken_out_or_added_is_noticed(
    file: Path, change: Callable[[dict[str, bytes]], None], says: str
) -> None:
    with zipfile.ZipFile(file) as members:
        parts = {name: members.read(name) for name in members.namelist()}
    change(parts)
    with zipfile.ZipFile(file, "w") as members:
        for name, data in parts.items():
            members.writestr(name, data)
    with pytest.raises(InvalidRequest, match=says):
        ArchiveReader(file, SIGNER)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    target = tmp_path / "elsewhere"
    target.write_text("kept")
    yield target
    assert target.read_text() == "kept"


@pytest.mark.parametrize("name", ["backup", ".backup.part"])
def test_a_link_is_not_followed(tmp_path: Path, elsewhere: Path, name: str) -> None:
    (tmp_path / name).symlink_to(elsewhere)
    try:
        with create_archive(tmp_path / "backup") as archive:
            archive.end(Manifest(begun_at=datetime.now(UTC), vectors={}, schema_revision=HEAD), SIGNER)
    except FileExistsError:
        assert name == "backup"
    else:
        assert not (tmp_path / "backup").is_symlink()


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), create_archive(tmp_path / "backup"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_of_two_backups_into_one_file_the_first_goes_on(tmp_path: Path) -> None:
    with create_archive(tmp_path / "backup") as archive:
        with pytest.raises(FileExistsError, match="another backup"), create_archive(tmp_path / "backup"):
            pass
        archive.end(Manifest(begun_at=datetime.now(UTC), vectors={}, schema_revision=HEAD), SIGNER)
    assert ArchiveReader(tmp_path / "backup", SIGNER).manifest.schema_revision == HEAD
    (tmp_path / ".other.part").write_text("of one that was killed")
    with create_archive(tmp_path / "other"):
        pass
    assert not (tmp_path / ".other.part").exists()


def test_a_backup_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with create_archive(tmp_path / "backup") as archive:
        archive.end(Manifest(begun_at=datetime.now(UTC), vectors={}, schema_revision="9999"), SIGNER)
    with pytest.raises(InvalidRequest, match="later version"):
        ArchiveReader(tmp_path / "backup", SIGNER)
