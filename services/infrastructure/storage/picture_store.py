"""The pictures: bytes under keys that are new with each acceptance, and beside them what they were decoded to."""

import os
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from visual_memory.schemas.errors import NotFound, OutOfSpace
from visual_memory.schemas.image import NO_PICTURE, has_picture, now, point_id
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
"""The folders of new pictures; those that were made before are called otherwise, and stay."""
RANDOM = 16
"""Bytes of a key that are drawn."""
PIXELS = re.compile(r"\.(?P<name>[0-9a-f-]{36}\.[0-9a-f]{1,16}\.[0-9a-f]{32})")


class FileKind(StrEnum):
    """What a file of a folder of pictures is."""

    PICTURE = "picture"
    PIXELS = "pixels"
    TEMPORARY = "draft"


@dataclass(frozen=True)
class PictureFile:
    """A file in a folder of pictures.

    Attributes:
        path: below the uppermost folder.
        key: of the picture that it is, or is of; of a draft that is not known.
    """

    path: str
    kind: FileKind
    key: str | None


def new_keys_of_vectors(number: int) -> list[str]:
    """Keys that were never given before, of images without pictures."""
    drawn = secrets.token_hex(number * RANDOM)  # at once, for each draw is a system call
    return [f"{NO_PICTURE}{drawn[start : start + 2 * RANDOM]}" for start in range(0, len(drawn), 2 * RANDOM)]


class PictureStore(BlobStore):
    """The pictures of every tenant.

    Pixels that a picture was decoded to lie beside it, or where it will be, and go with it, or before. They are not
    durable, are in no listing and go after a while like a draft. None are kept beside an object store, where that would
    take longer than to decode again, nor on a disk that is not roomy.
    """

    def new_key(self, tenant: str, image_id: str, content_hash: str) -> str:
        """A key that was never given before, under the tenant's folder of this hour.

        One sync of the folder serves many, and what came lately is found without reading all there is.
        """
        point, folder = point_id(tenant, image_id), _folder(tenant, now())
        return f"{folder}/{point}.{content_hash[:16]}.{uuid.uuid4().hex}"

    def read(self, key: str) -> bytes:
        """A picture's bytes.

        Raises:
            NotFound: it is gone, or there never was one.
        """
        if not has_picture(key):
            raise NotFound("this image has no picture: it came as a vector")
        return super().read(key)

    def store_pixels(self, key: str, pixels: bytes) -> None:
        """Keep what a picture was decoded to, where there is room."""
        place = self._pixels_of(key)
        with translate_errors(key), suppress(OutOfSpace):
            if self._local:
                for folder in make_folder(place.parent)[1:]:
                    sync(folder)
                check_free_space(place.parent, self._floor * SPARE, len(pixels))
                place.write_bytes(pixels)

    def pixels(self, key: str) -> bytes | None:
        """What a picture was decoded to; None where that is not kept. A crash may have cut it short."""
        with translate_errors(key), suppress(FileNotFoundError):
            return self._pixels_of(key).read_bytes() if self._local else None
        return None

    def drop_pixels(self, keys: Iterable[str]) -> None:
        """Delete what pictures were decoded to; a crash of the machine may bring it back until `delete` is called."""
        for key in keys if self._local else ():
            with translate_errors(key):
                self._pixels_of(key).unlink(missing_ok=True)

    @property
    def is_local(self) -> bool:
        """Whether they lie on this machine."""
        return self._local

    def tenants(self) -> Sequence[str]:
        """Everybody who ever had pictures."""
        return self.top_folders()

    def folders(self, tenant: str, since: datetime, until: datetime) -> list[str]:
        """The folders to which a tenant's new pictures went from a moment to another, and an hour before and after."""
        hours = range(-1, int((until - since) / HOUR) + 2)
        return [_folder(tenant, since + hour * HOUR) for hour in hours]

    def all(self, folder: str | None = None) -> list[str]:
        """The key of every picture of a tenant, of a folder, or of every tenant; sorted."""
        return self.list("" if folder is None else f"{folder}/")

    def folders_of(self, tenant: str) -> Iterator[str]:
        """Every folder of a tenant in which something is or was."""
        found: list[dict[str, Any]] = []
        with suppress(NotFound), translate_errors(tenant):
            found = self._files.ls(self._path(tenant), detail=True)
        yield tenant
        names = [str(each["name"]).rpartition("/")[2] for each in found if each["type"] == "directory"]
        yield from (f"{tenant}/{name}" for name in sorted(names) if KEY.fullmatch(name))

    def files(self, folder: str) -> Iterator[PictureFile]:
        """What lies in a folder, pixels and drafts too, one by one; others may write and delete meanwhile."""
        if not self._local:
            with suppress(NotFound), translate_errors(folder):
                found = [str(each["name"]) for each in self._files.ls(self._path(folder)) if each["type"] == "file"]
                names = (name.rpartition("/")[2] for name in found)
                yield from (PictureFile(f"{folder}/{name}", FileKind.PICTURE, f"{folder}/{name}") for name in names)
            return
        with suppress(NotFound), translate_errors(folder), os.scandir(self._path(folder)) as entries:
            for entry in entries:
                pixels, path = PIXELS.fullmatch(entry.name), f"{folder}/{entry.name}"
                if pixels:
                    yield PictureFile(path, FileKind.PIXELS, f"{folder}/{pixels['name']}")
                elif TEMPORARY.fullmatch(entry.name):
                    yield PictureFile(path, FileKind.TEMPORARY, None)
                elif KEY.fullmatch(entry.name) and entry.is_file():
                    yield PictureFile(path, FileKind.PICTURE, path)

    def file_written_at(self, file: PictureFile) -> datetime:
        """When a file was written.

        Raises:
            NotFound: it is gone.
        """
        if file.kind is FileKind.PICTURE:
            return self.written_at(file.path)
        with translate_errors(file.path):
            return datetime.fromtimestamp(Path(self._root, file.path).stat().st_mtime, UTC)

    def delete_files(self, files: Iterable[PictureFile]) -> int:
        """Delete files of folders, and with pictures their pixels; returns how many there were."""
        given = [*files]
        others = [Path(self._root, file.path) for file in given if file.kind is not FileKind.PICTURE]
        deleted = self.delete(file.path for file in given if file.kind is FileKind.PICTURE)
        for path in others:
            with translate_errors(str(path)), suppress(FileNotFoundError):
                path.unlink()
                deleted += 1
        for folder in {path.parent for path in others}:
            sync(folder)
        return deleted

    def delete(self, keys: Iterable[str]) -> int:
        """Delete pictures and their pixels, those that are there; returns how many there were."""
        given = [*filter(has_picture, keys)]
        self.drop_pixels(given)
        return super().delete(given)

    def delete_empty_folders(self, before: datetime) -> None:
        """Delete the folders of the hours before a moment in which nothing is left."""
        last = _hour(before)
        self.delete_empty(lambda name: HOURS.fullmatch(name) is not None and name < last)

    def _pixels_of(self, key: str) -> Path:
        place = Path(self._path(key))
        return place.with_name(f".{place.name}")  # which no key is, and which says whose they are


def _folder(tenant: str, moment: datetime) -> str:
    return f"{tenant}/{_hour(moment)}"


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%d%H}"
