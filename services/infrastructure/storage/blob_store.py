"""Bytes under keys, in a folder or on any fsspec filesystem; durable when written, gone when deleted."""

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
"""Keys are made by us; anything that could leave the folder is not one."""
FEW = 16
"""So many keys are asked for one by one."""
OPEN_AT_ONCE = 8
TEMPORARY = re.compile(r"\.[0-9a-f]{32}")


class BlobStore:
    """Bytes under keys such as ``a/b/c``.

    Every method raises `Unavailable` where the filesystem does not answer, `ValueError` for what is no key.

    Args:
        url: a folder of this machine, or an fsspec URL such as ``s3://bucket/folder``.
        floor: bytes that must stay free on this machine's disk; see `services.infrastructure.storage.disk_space`.
    """

    def __init__(self, url: str | Path, floor: float = 0) -> None:
        # a listing must see what another process wrote
        self._files, root = fsspec.url_to_fs(str(url), use_listings_cache=False)
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)
        self._floor = floor
        self._filling = threading.Lock()  # of those who look for room at once, each must see what the others took

    def write(self, key: str, data: bytes) -> None:
        """Write, or replace as a whole; durable when it returns.

        Raises:
            OutOfSpace: the disk is full, or too full for this.
        """
        self.write_some({key: data})

    def write_some(self, blobs: Mapping[str, bytes]) -> None:
        """Write each, or replace it as a whole; durable when it returns, but some may be there where it raises.

        Raises:
            OutOfSpace: the disk is full, or too full for this.
        """
        written = {self._path(key): data for key, data in blobs.items()}
        with translate_errors(next(iter(blobs), "")):
            if self._local:
                self._write_durably({Path(path): data for path, data in written.items()})
            else:
                self._files.pipe(written)

    def read(self, key: str) -> bytes:
        """What was written.

        Raises:
            NotFound: nothing is there.
        """
        path = self._path(key)
        with translate_errors(key):
            return bytes(self._files.cat_file(path))

    def exists(self, key: str) -> bool:
        """Whether something is there."""
        path = self._path(key)
        with translate_errors(key):
            return bool(self._files.isfile(path))

    def existing(self, keys: Collection[str]) -> set[str]:
        """Those of some keys under which something is; of many, an object store is asked for their folders."""
        if self._local:
            with translate_errors(""):
                return {key for key in keys if os.path.isfile(self._path(key))}  # noqa: PTH113 - a Path takes longer
        if len(keys) <= FEW:
            return {key for key in keys if self.exists(key)}
        folders = {f"{key.rpartition('/')[0]}/" for key in keys}
        return {*keys} & {key for folder in folders for key in self.list(folder)}

    def list(self, prefix: str) -> list[str]:
        """The keys that begin with ``prefix``: empty, a folder with its slash, or a folder and the start of a name."""
        folder = prefix.rpartition("/")[0]
        with translate_errors(prefix):
            found = self._files.find(self._path(folder) if folder else self._root)
        keys = (str(path).removeprefix(f"{self._root}/") for path in found)
        return sorted(key for key in keys if key.startswith(prefix) and KEY.fullmatch(key))

    def written_at(self, key: str) -> datetime:
        """When it was written.

        Raises:
            NotFound: nothing is there.
        """
        path = self._path(key)
        with translate_errors(key):
            moment: datetime = self._files.modified(path)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete what is there; durable when it returns. Returns how many there were.

        Folders stay, for others may be about to write into them: see `delete_empty`.
        """
        touched: list[Path] = []
        for key in keys:
            path = self._path(key)
            with translate_errors(key):
                try:
                    if not self._local and not self._files.isfile(path):
                        continue  # an object store deletes what is not there without a word
                    self._files.rm_file(path)
                except FileNotFoundError:
                    continue
            touched.append(Path(path).parent)
        for folder in set(touched) if self._local else ():
            sync(folder)
        return len(touched)

    def delete_temporary_files(self, before: datetime, folder: str = "") -> int:
        """Delete what a kill in the middle of a write left before a moment; returns how much.

        An object store has no drafts that could be seen here: what was not sent to its end is its operator's.

        Args:
            before: younger ones may still be written.
            folder: only below this one, such as ``a/b``.
        """
        if not self._local:
            return 0
        root, age = Path(self._path(folder) if folder else self._root), time.time() - before.timestamp()
        drafts = [path for path in root.rglob(".*") if TEMPORARY.fullmatch(path.name)]
        with translate_errors(""):
            return sum(_delete_older(draft, age) for draft in drafts)

    def top_folders(self) -> Sequence[str]:
        """The names of the uppermost folders; sorted."""
        with suppress(NotFound), translate_errors(""):
            found = self._files.ls(self._root, detail=True)
            names = [str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]
            return sorted(name for name in names if KEY.fullmatch(name))
        return []

    def delete_empty(self, named: Callable[[str], bool]) -> None:
        """Delete the folders within the uppermost ones that are empty, of those with certain names.

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

    def _write_durably(self, blobs: Mapping[Path, bytes]) -> None:
        """Write drafts, and put them under their names.

        Some are written before the first of them is synced, and all before their folders are: the filesystem then
        writes its journal once for many.
        """
        folders = {folder: None for parent in {path.parent for path in blobs} for folder in make_folder(parent)}
        given = list(blobs)
        for start in range(0, len(given), OPEN_AT_ONCE):
            # a leading dot is no key, so a draft is never listed
            drafts = {path: path.with_name(f".{uuid.uuid4().hex}") for path in given[start : start + OPEN_AT_ONCE]}
            try:
                self._write_drafts({draft: blobs[path] for path, draft in drafts.items()})
                for path, draft in drafts.items():
                    draft.replace(path)
            finally:
                for draft in drafts.values():
                    draft.unlink(missing_ok=True)
        for folder in folders:
            sync(folder)

    def _write_drafts(self, drafts: Mapping[Path, bytes]) -> None:
        with ExitStack() as opened:
            files = {draft: opened.enter_context(draft.open("xb")) for draft in drafts}
            with self._filling:
                for draft, data in drafts.items():
                    check_free_space(draft.parent, self._floor, len(data))
                    files[draft].write(data)
                    files[draft].flush()
            for file in files.values():
                os.fsync(file.fileno())

    def _path(self, key: str) -> str:
        if not KEY.fullmatch(key):
            raise ValueError(f"no key of a blob: {key!r}")
        return f"{self._root}/{key}"


@contextmanager
def translate_errors(key: str) -> Iterator[None]:
    """Turn what a filesystem raises into the errors of `BlobStore`."""
    try:
        yield
    except VisualMemoryError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"nothing is stored under {key}") from error
    except Exception as error:  # object stores raise their own classes
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace("the disk is full; make room, then send it again") from error
        raise Unavailable(f"the blob store does not answer: {type(error).__name__}") from error


def make_folder(folder: Path) -> list[Path]:
    """Make a folder; the folders whose entries must be synced for it, the deepest first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [folder, *(parent.parent for parent in missing)]


def _delete_older(draft: Path, age: float) -> bool:
    """Delete what was written so many seconds ago; or so far in the future, by a clock that was wrong."""
    try:
        if abs(time.time() - draft.stat().st_mtime) <= age:
            return False
        draft.unlink()
    except FileNotFoundError:
        return False
    sync(draft.parent)
    return True
