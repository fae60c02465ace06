"""Store pictures, each under a new key, their thumbnails, and their decoded pixels until they are embedded."""

import os
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from visual_memory.schemas.errors import NotFound, OutOfSpace
from visual_memory.schemas.image import NO_PICTURE, has_picture, point_id
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.blob_store import (
    KEY,
    TEMPORARY,
    BlobStore,
    make_folder,
    translate_errors,
)
from visual_memory.services.infrastructure.storage.disk_space import SPARE, check_free_space
from visual_memory.services.infrastructure.storage.fsync import sync

HOUR = timedelta(hours=1)
HOURS = re.compile(r"[0-9]{10}")
"""Names of the folders of new pictures; the folders of earlier versions have other names and stay."""
RANDOM = 16
"""Random bytes in the key of an image without a picture."""
PIXELS = re.compile(r"\.(?P<name>[0-9a-f-]{36}\.[0-9a-f]{1,16}\.[0-9a-f]{32})")
THUMBNAIL = re.compile(r"\.(?P<name>[A-Za-z0-9_][A-Za-z0-9._=-]*)\.jpg")
NO_THUMBNAILS: Mapping[str, bytes] = MappingProxyType({})
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class FileKind(StrEnum):
    """What a file in a folder of pictures contains."""

    PICTURE = "picture"
    PIXELS = "pixels"
    THUMBNAIL = "thumbnail"
    TEMPORARY = "temporary"


@dataclass(frozen=True)
class PictureFile:
    """A file in a folder of pictures.

    Attributes:
        path: relative to the root folder.
        key: of the picture, also for its pixels and its thumbnail; None for a temporary file.
    """

    path: str
    kind: FileKind
    key: str | None


def new_keys_of_vectors(number: int) -> list[str]:
    """New keys for images without pictures."""
    drawn = secrets.token_hex(number * RANDOM)  # one system call for all
    return [f"{NO_PICTURE}{drawn[start : start + 2 * RANDOM]}" for start in range(0, len(drawn), 2 * RANDOM)]


class PictureStore(BlobStore):
    """The pictures of every tenant.

    The thumbnail of a picture, a JPEG, is stored next to it under a name made of the picture's key, and deleted with
    it. In a local folder it is not durable: a crash of the machine may lose or truncate it, and then it is made again.

    The pixels of a picture are cached in a file next to it and deleted with it, or before. They are not durable and not
    listed, and are deleted after a while like temporary files. They are not cached in an object store, where that takes
    longer than decoding again, nor on a disk without much free space.
    """

    def new_key(self, tenant: str, image_id: str, content_hash: str) -> str:
        """A new key in the tenant's folder of this hour.

        One sync of the folder serves many pictures, and recent pictures are found without listing all of them.
        """
        point, folder = point_id(tenant, image_id), _folder(tenant, now())
        return f"{folder}/{point}.{content_hash[:16]}.{uuid.uuid4().hex}"

    def read(self, key: str) -> bytes:
        """Read a picture.

        Raises:
            NotFound: it does not exist, or the image came as a vector.
        """
        _check_has_picture(key)
        return super().read(key)

    def write_many(self, blobs: Mapping[str, bytes], thumbnails: Mapping[str, bytes] = NO_THUMBNAILS) -> None:
        """Write pictures, durably, and the thumbnails of some of them.

        Args:
            blobs: the files of the pictures by key.
            thumbnails: JPEG files by the key of their picture; those for which a disk has no space are left out.

        Raises:
            OutOfSpace: the disk does not have enough free space for the pictures.
        """
        if self._local:
            super().write_many(blobs)
            for key, jpeg in thumbnails.items():
                self.store_thumbnail(key, jpeg)
            return
        paths = {self._path(key): data for key, data in blobs.items()}
        with translate_errors(next(iter(blobs), "")):
            self._files.pipe(paths | {self._thumbnail_of(key): jpeg for key, jpeg in thumbnails.items()})

    def store_thumbnail(self, key: str, jpeg: bytes) -> None:
        """Store the thumbnail of a picture that was written before, if there is enough free space."""
        path = self._thumbnail_of(key)
        with translate_errors(key), suppress(OutOfSpace):
            if self._local:
                check_free_space(Path(path).parent, self._floor * SPARE, len(jpeg))
                Path(path).write_bytes(jpeg)
            else:
                self._files.pipe_file(path, jpeg)

    def thumbnail(self, key: str) -> bytes | None:
        """The stored thumbnail of a picture; None if there is none, or if a crash truncated it.

        Raises:
            NotFound: the image came as a vector.
        """
        _check_has_picture(key)
        path = self._thumbnail_of(key)
        with translate_errors(key), suppress(FileNotFoundError):
            jpeg = Path(path).read_bytes() if self._local else bytes(self._files.cat_file(path))
            return jpeg if jpeg.startswith(JPEG_START) and jpeg.endswith(JPEG_END) else None
        return None

    def store_pixels(self, key: str, pixels: bytes) -> None:
        """Cache the pixels of a picture if there is enough free space."""
        path = self._pixels_of(key)
        with translate_errors(key), suppress(OutOfSpace):
            if self._local:
                for folder in make_folder(path.parent)[1:]:
                    sync(folder)
                check_free_space(path.parent, self._floor * SPARE, len(pixels))
                path.write_bytes(pixels)

    def pixels(self, key: str) -> bytes | None:
        """The cached pixels of a picture, maybe truncated by a crash; None if there are none."""
        with translate_errors(key), suppress(FileNotFoundError):
            return self._pixels_of(key).read_bytes() if self._local else None
        return None

    def drop_pixels(self, keys: Iterable[str]) -> None:
        """Delete cached pixels; until `delete` is called, a crash of the machine may restore them."""
        for key in keys if self._local else ():
            with translate_errors(key):
                self._pixels_of(key).unlink(missing_ok=True)

    @property
    def is_local(self) -> bool:
        """Whether the pictures are stored on this machine."""
        return self._local

    def tenants(self) -> Sequence[str]:
        """All tenants that ever had pictures."""
        return self.top_folders()

    def folders(self, tenant: str, since: datetime, until: datetime) -> list[str]:
        """The folders of a tenant's pictures that were stored between two moments, an hour more on each side."""
        hours = range(-1, int((until - since) / HOUR) + 2)
        return [_folder(tenant, since + hour * HOUR) for hour in hours]

    def all(self, folder: str | None = None) -> list[str]:
        """The keys of all pictures of a tenant, of a folder, or of all tenants; sorted."""
        return self.list("" if folder is None else f"{folder}/")

    def folders_of(self, tenant: str) -> Iterator[str]:
        """All folders of a tenant, empty ones too."""
        found: list[dict[str, Any]] = []
        with suppress(NotFound), translate_errors(tenant):
            found = self._files.ls(self._path(tenant), detail=True)
        yield tenant
        names = [str(each["name"]).rpartition("/")[2] for each in found if each["type"] == "directory"]
        yield from (f"{tenant}/{name}" for name in sorted(names) if KEY.fullmatch(name))

    def files(self, folder: str) -> Iterator[PictureFile]:
        """The files of a folder, also pixels, thumbnails and temporary files; others may write and delete meanwhile."""
        if not self._local:
            with suppress(NotFound), translate_errors(folder):
                found = [str(each["name"]) for each in self._files.ls(self._path(folder)) if each["type"] == "file"]
                yield from (_file(folder, name.rpartition("/")[2]) for name in found)
            return
        with suppress(NotFound), translate_errors(folder), os.scandir(self._path(folder)) as entries:
            for entry in entries:
                file = _file(folder, entry.name)
                if file.kind is not FileKind.PICTURE or (KEY.fullmatch(entry.name) and entry.is_file()):
                    yield file

    def file_written_at(self, file: PictureFile) -> datetime:
        """When a file was last written.

        Raises:
            NotFound: it does not exist.
        """
        return self._written_at(f"{self._root}/{file.path}", file.path)

    def delete_files(self, files: Iterable[PictureFile]) -> int:
        """Delete files, and the pixels and thumbnails of deleted pictures; returns how many files there were."""
        given = [*files]
        deleted = self.delete(file.path for file in given if file.kind is FileKind.PICTURE)
        folders = self._unlink(f"{self._root}/{file.path}" for file in given if file.kind is not FileKind.PICTURE)
        self._sync_all(folders)
        return deleted + len(folders)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete pictures with their pixels and thumbnails; returns how many pictures there were."""
        given = [*filter(has_picture, keys)]
        self.drop_pixels(given)
        folders = self._unlink(map(self._thumbnail_of, given))
        deleted = super().delete(given)
        if deleted < len(given):  # it syncs the folders of those that it deletes
            self._sync_all(folders)
        return deleted

    def delete_thumbnail(self, key: str) -> None:
        """Delete the thumbnail of a picture; durable when it returns."""
        self._sync_all(self._unlink([self._thumbnail_of(key)]))

    def delete_empty_folders(self, before: datetime) -> None:
        """Delete the empty folders of the hours before a moment."""
        last = _hour(before)
        self.delete_empty_subfolders(lambda name: HOURS.fullmatch(name) is not None and name < last)

    def _unlink(self, paths: Iterable[str]) -> list[Path]:
        """Delete files that are no blobs; returns the folder of each that there was."""
        folders = []
        for path in paths:
            with translate_errors(path), suppress(FileNotFoundError):
                self._files.rm_file(path)
                folders.append(Path(path).parent)
        return folders

    def _sync_all(self, folders: Iterable[Path]) -> None:
        for folder in set(folders) if self._local else ():
            sync(folder)

    def _thumbnail_of(self, key: str) -> str:
        folder, _, name = self._path(key).rpartition("/")
        return f"{folder}/.{name}.jpg"  # no key, but it names the picture

    def _pixels_of(self, key: str) -> Path:
        path = Path(self._path(key))
        return path.with_name(f".{path.name}")  # no key, but it names the picture


def _check_has_picture(key: str) -> None:
    if not has_picture(key):
        raise NotFound("this image has no picture: it came as a vector")


def _file(folder: str, name: str) -> PictureFile:
    """What a file in a folder contains, by its name."""
    path = f"{folder}/{name}"
    for kind, pattern in ((FileKind.THUMBNAIL, THUMBNAIL), (FileKind.PIXELS, PIXELS)):
        if found := pattern.fullmatch(name):
            return PictureFile(path, kind, f"{folder}/{found['name']}")
    if TEMPORARY.fullmatch(name):
        return PictureFile(path, FileKind.TEMPORARY, None)
    return PictureFile(path, FileKind.PICTURE, path)


def _folder(tenant: str, moment: datetime) -> str:
    return f"{tenant}/{_hour(moment)}"


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%d%H}"
