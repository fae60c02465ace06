"""A report that comes over the net is unpacked into its folder, and nowhere else."""

import io
import zipfile
from pathlib import Path

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.client import run_evaluation
from visual_memory.services.client.run_evaluation import unpack


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_files_come_with_their_folders_and_replace_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.html").write_text("an earlier one")
    unpack(zipped(**{"report.html": b"x", "thumbnails/0.jpg": b"y"}), tmp_path / "a")
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a/report.html": b"x", "a/thumbnails/0.jpg": b"y"}


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".x", "a//x", "a\\x", "~/x", "C:/x"])
def test_a_file_that_would_leave_the_folder_stops_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="strange files"):
        unpack(zipped(**{"report.html": b"x", name: b"y"}), tmp_path / "a")
    assert list(tmp_path.rglob("*")) == []


def test_a_report_that_would_fill_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_evaluation, "MAX_BYTES", 9)
    with pytest.raises(InvalidRequest, match="too large"):
        unpack(zipped(**{"report.html": b"12345", "report.json": b"67890"}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no zip file"):
        unpack(b"no zip", tmp_path)
