"""Access the JSON files of earlier versions, in a local folder or at an fsspec URL: list, read, move and delete."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from visual_memory.schemas.errors import Unavailable

DAMAGED = "damaged"
"""The folder of unreadable files."""


class JsonFiles:
    """The files under keys such as ``removals/default/1``; a local folder is listed lazily.

    Args:
        url: a local folder, or an fsspec URL such as ``s3://bucket/records``.
    """

    def __init__(self, url: str | Path) -> None:
        self._files, root = fsspec.url_to_fs(str(url), use_listings_cache=False)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    def keys(self, folder: str = "") -> Iterator[str]:
        """The keys below a folder, such as ``removals``, in any order; files may be deleted meanwhile.

        Raises:
            Unavailable: an object store does not answer.
        """
        top = f"{self._root}/{folder}".rstrip("/")
        paths = _walk(top) if self._local else self._found(top)
        for path in paths:
            key = path.removeprefix(f"{self._root}/")
            if not key.startswith(f"{DAMAGED}/"):
                yield key

    def folders(self, folder: str = "") -> list[str]:
        """The names of the direct subfolders."""
        top = f"{self._root}/{folder}".rstrip("/")
        try:
            found = self._files.ls(top, detail=True)
        except FileNotFoundError:
            return []
        return sorted(str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")

    def read(self, key: str) -> bytes | None:
        """The content of a file; None if it does not exist."""
        try:
            return bytes(self._files.cat_file(f"{self._root}/{key}"))
        except FileNotFoundError:
            return None

    def read_some(self, keys: Sequence[str]) -> list[bytes | None]:
        """The contents of several files, in the order of the keys; an object store gets one request for all."""
        if self._local:
            return [self.read(key) for key in keys]
        paths = [f"{self._root}/{key}" for key in keys]
        answers = {str(path): found for path, found in self._files.cat(paths, on_error="return").items()}
        for answer in answers.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise Unavailable(f"the old records cannot be read: {type(answer).__name__}") from answer
        return [found if isinstance(found := answers.get(path), bytes) else None for path in paths]

    def set_aside(self, key: str) -> None:
        """Move an unreadable file to the folder `DAMAGED`, which is not read again."""
        there = f"{self._root}/{DAMAGED}/{key}"
        self._files.makedirs(there.rpartition("/")[0], exist_ok=True)
        with suppress(FileNotFoundError):
            self._files.mv(f"{self._root}/{key}", there)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; missing ones are ignored."""
        for key in keys:
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{key}")

    def delete_folders(self) -> None:
        """Delete empty folders, and temporary files that a killed write has left in them."""
        if not self._local:
            return
        for folder, _, names in os.walk(self._root, topdown=False):
            for name in names:
                if name.startswith("."):
                    (Path(folder) / name).unlink(missing_ok=True)
            with suppress(OSError):  # it is not empty
                Path(folder).rmdir()

    def _found(self, top: str) -> Iterator[str]:
        with suppress(FileNotFoundError):
            yield from (str(path) for path in self._files.find(top))


def _walk(folder: str) -> Iterator[str]:
    """The files below a folder, except temporary files, in the order of the listing."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            elif not entry.name.startswith("."):
                yield entry.path
