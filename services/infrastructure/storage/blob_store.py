"""Store bytes under keys, in a folder or on any fsspec filesystem; writes and deletions are durable."""

import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from visual_memory.schemas.errors import NotFound, OutOfSpace, Unavailable, VisualMemoryError
from visual_memory.services.infrastructure.storage.disk_space import check_free_space
from visual_memory.services.infrastructure.storage.fsync import sync

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]*(/[A-Za-z0-9_][A-Za-z0-9._=-]*)*")
"""Only this service makes keys; nothing that could leave the folder is one."""
FEW = 16
"""Up to this many keys are looked up one by one."""
OPEN_AT_ONCE = 8
TEMPORARY = re.compile(r"\.[0-9a-f]{32}")


class BlobStore:
    """Blobs under keys such as ``a/b/c``.

    Every method raises `Unavailable` if the filesystem does not answer, and `ValueError` for an invalid key.

    Args:
        url: a local folder, or an fsspec URL such as ``s3://bucket/folder``.
        floor: bytes that must stay free on this machine's disk; see `services.infrastructure.storage.disk_space`.
    """

    def __init__(self, url: str | Path, floor: float = 0) -> None:
        # a listing must see what another process wrote
        self._files, root = fsspec.url_to_fs(str(url), use_listings_cache=False)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)
        self._floor = floor
        self._space_lock = threading.Lock()  # so that each check of the free space sees what other threads have written

    def write(self, key: str, data: bytes) -> None:
        """Write or replace one blob; durable when it returns.

        Raises:
            OutOfSpace: the disk does not have enough free space.
        """
        self.write_many({key: data})

    def write_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write or replace several blobs; durable when it returns. If it raises, some may have been written.

        Raises:
            OutOfSpace: the disk does not have enough free space.
        """
        written = {self._path(key): data for key, data in blobs.items()}
        with translate_errors(next(iter(blobs), "")):
            if self._local:
                self._write_durably({Path(path): data for path, data in written.items()})
            else:
                self._files.pipe(written)

    def read(self, key: str) -> bytes:
        """Read a blob.

        Raises:
            NotFound: there is none.
        """
        path = self._path(key)
        with translate_errors(key):
            return bytes(self._files.cat_file(path))

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        path = self._path(key)
        with translate_errors(key):
            return bool(self._files.isfile(path))

    def existing(self, keys: Collection[str]) -> set[str]:
        """The keys that exist; if there are many, an object store is asked to list their folders."""
        if self._local:
            with translate_errors(""):
                return {key for key in keys if os.path.isfile(self._path(key))}  # noqa: PTH113 - a Path takes longer
        if len(keys) <= FEW:
            return {key for key in keys if self.exists(key)}
        folders = {f"{key.rpartition('/')[0]}/" for key in keys}
        return {*keys} & {key for folder in folders for key in self.list(folder)}

    def list(self, prefix: str) -> list[str]:
        """The keys that start with ``prefix``: empty, a folder with its slash, or a folder and the start of a name."""
        folder = prefix.rpartition("/")[0]
        with translate_errors(prefix):
            found = self._files.find(self._path(folder) if folder else self._root)
        keys = (str(path).removeprefix(f"{self._root}/") for path in found)
        return sorted(key for key in keys if key.startswith(prefix) and KEY.fullmatch(key))

    def written_at(self, key: str) -> datetime:
        """When a blob was last written.

        Raises:
            NotFound: there is none.
        """
        return self._written_at(self._path(key), key)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete blobs; durable when it returns. Returns how many there were.

        Folders stay, because other callers may be about to write into them; see `delete_empty_subfolders`.
        """
        folders: list[Path] = []
        for key in keys:
            path = self._path(key)
            with translate_errors(key):
                try:
                    if not self._local and not self._files.isfile(path):
                        continue  # an object store raises nothing for a missing object
                    self._files.rm_file(path)
                except FileNotFoundError:
                    continue
            folders.append(Path(path).parent)
        for folder in set(folders) if self._local else ():
            sync(folder)
        return len(folders)

    def delete_temporary_files(self, before: datetime, folder: str = "") -> int:
        """Delete the temporary files of writes that were killed; returns how many there were.

        An object store shows no temporary files: its operator cleans up incomplete uploads.

        Args:
            before: only files that were last written before this moment; younger ones may still be in use.
            folder: only files below this folder, such as ``a/b``.
        """
        if not self._local:
            return 0
        root, age = Path(self._path(folder) if folder else self._root), time.time() - before.timestamp()
        files = [path for path in root.rglob(".*") if TEMPORARY.fullmatch(path.name)]
        with translate_errors(""):
            return sum(_delete_older(path, age) for path in files)

    def top_folders(self) -> Sequence[str]:
        """Names of the top-level folders, sorted."""
        with suppress(NotFound), translate_errors(""):
            found = self._files.ls(self._root, detail=True)
            names = [str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]
            return sorted(name for name in names if KEY.fullmatch(name))
        return []

    def delete_empty_subfolders(self, named: Callable[[str], bool]) -> None:
        """Delete empty folders in the top-level folders, if `named` accepts their names.

        An object store has no empty folders.
        """
        with translate_errors(""):
            for folder in Path(self._root).glob("*/*") if self._local else ():
                if named(folder.name):
                    with suppress(OSError):  # it is not empty
                        folder.rmdir()

    def ping(self) -> None:
        """Return if the filesystem answers."""
        with translate_errors(""):
            self._files.exists(self._root)

    def _written_at(self, path: str, name: str) -> datetime:
        with translate_errors(name):
            moment: datetime = self._files.modified(path)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _write_durably(self, blobs: Mapping[Path, bytes]) -> None:
        """Write temporary files and rename them.

        Several are written before the first of them is synced, and all before their folders are: the filesystem then
        writes its journal once for many files.
        """
        folders = {folder: None for parent in {path.parent for path in blobs} for folder in make_folder(parent)}
        given = list(blobs)
        for start in range(0, len(given), OPEN_AT_ONCE):
            # no key starts with a dot, so a temporary file is never listed
            temporary = {path: path.with_name(f".{uuid.uuid4().hex}") for path in given[start : start + OPEN_AT_ONCE]}
            try:
                self._write_temporary({file: blobs[path] for path, file in temporary.items()})
                for path, file in temporary.items():
                    file.replace(path)
            finally:
                for file in temporary.values():
                    file.unlink(missing_ok=True)
        for folder in folders:
            sync(folder)

    def _write_temporary(self, blobs: Mapping[Path, bytes]) -> None:
        with ExitStack() as opened:
            files = {path: opened.enter_context(path.open("xb")) for path in blobs}
            with self._space_lock:
                for path, data in blobs.items():
                    check_free_space(path.parent, self._floor, len(data))
                    files[path].write(data)
                    files[path].flush()
            for file in files.values():
                os.fsync(file.fileno())

    def _path(self, key: str) -> str:
        if not KEY.fullmatch(key):
            raise ValueError(f"not a key: {key!r}")
        return f"{self._root}/{key}"


@contextmanager
def translate_errors(key: str) -> Iterator[None]:
    """Translate the errors of a filesystem to those of `BlobStore`."""
    try:
        yield
    except VisualMemoryError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"nothing is stored under {key}") from error
    except Exception as error:  # object stores raise classes of their own
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace("the disk is full; free some space, then send it again") from error
        raise Unavailable(f"the blob store does not answer: {type(error).__name__}") from error


def make_folder(folder: Path) -> list[Path]:
    """Create a folder; returns the folders whose entries must be synced for that, deepest first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder, *(parent.parent for parent in missing)]


def _delete_older(file: Path, age: float) -> bool:
    """Delete a file last written more than `age` seconds ago, or that far in the future, by a clock that was wrong."""
    try:
        if abs(time.time() - file.stat().st_mtime) <= age:
            return False
        file.unlink()
    except FileNotFoundError:
        return False
    sync(file.parent)
    return True
