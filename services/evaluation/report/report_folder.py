"""The folder of a report."""

from collections.abc import Mapping
from pathlib import Path


def fill(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report's files, by their paths; the folder is made if it is not there, an earlier report replaced."""
    if (folder / "report.json").exists():
        for old in [*folder.glob("plots/*.png"), *folder.glob("thumbnails/*.jpg")]:
            old.unlink()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
