"""The pictures: bytes under keys that are new with each acceptance."""

import re
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.errors import NotFound
from schemas.image import now
from services.memory.blobs import Blobs
from services.memory.payload import point_id
from services.memory.space import NEW

HOUR = timedelta(hours=1)
HOURS = re.compile(r"[0-9]{10}")
"""The folders of new pictures; those that were made before are called otherwise, and stay."""
RANDOM = 16
"""Bytes of a key that are drawn."""
NO_PICTURE = "vector."
"""What the key of an image begins with that came as a vector; those of pictures hold a folder."""


def new_keys_of_vectors(number: int) -> list[str]:
    """Keys that were never given before, of images without pictures."""
    drawn = secrets.token_hex(number * RANDOM)  # at once, for each draw is a system call
    return [f"{NO_PICTURE}{drawn[start : start + 2 * RANDOM]}" for start in range(0, len(drawn), 2 * RANDOM)]


def has_picture(key: str) -> bool:
    """Whether an image with this key came as a picture."""
    return not key.startswith(NO_PICTURE)


class Pictures:
    """The pictures of every tenant.

    Every method raises `schemas.errors.Unavailable` where the filesystem does not answer.

    Args:
        url: a folder of this machine, or an fsspec URL such as ``s3://bucket/folder``.
        floor: bytes that must stay free on this machine's disk; see `services.memory.space`.
    """

    def __init__(self, url: str | Path, floor: int = 0) -> None:
        self._blobs = Blobs(url, floor * NEW)

    def new_key(self, tenant: str, image_id: str, content_hash: str) -> str:
        """A key that was never given before, under the tenant's folder of this hour.

        One sync of the folder serves many, and what came lately is found without reading all there is.
        """
        point, folder = point_id(tenant, image_id), _folder(tenant, now())
        return f"{folder}/{point}.{content_hash[:16]}.{uuid.uuid4().hex}"

    def write(self, key: str, data: bytes) -> None:
        """Write a picture; durable when it returns.

        Raises:
            OutOfSpace: the disk is full, or too full for this.
        """
        self._blobs.write(key, data)

    def write_some(self, pictures: Mapping[str, bytes]) -> None:
        """Write pictures; durable when it returns, but some may be there where it raises.

        Raises:
            OutOfSpace: as `write`.
        """
        self._blobs.write_some(pictures)

    def read(self, key: str) -> bytes:
        """A picture's bytes.

        Raises:
            NotFound: it is gone, or there never was one.
        """
        if not has_picture(key):
            raise NotFound("this image has no picture: it came as a vector")
        return self._blobs.read(key)

    def keep_pixels(self, key: str, pixels: bytes) -> None:
        """Keep what a picture was decoded to, where there is room, until `drop_pixels`; gone with it at the latest."""
        self._blobs.write_beside(key, pixels)

    def pixels(self, key: str) -> bytes | None:
        """What a picture was decoded to; None where that is not kept. A crash may have damaged it."""
        return self._blobs.read_beside(key)

    def drop_pixels(self, keys: Iterable[str]) -> None:
        """Delete what pictures were decoded to."""
        self._blobs.delete_beside(keys)

    def tenants(self) -> Sequence[str]:
        """Everybody who ever had pictures."""
        return self._blobs.folders()

    def folders(self, tenant: str, since: datetime, until: datetime) -> list[str]:
        """The folders to which a tenant's new pictures went from a moment to another, and an hour before and after."""
        hours = range(-1, int((until - since) / HOUR) + 2)
        return [_folder(tenant, since + hour * HOUR) for hour in hours]

    def all(self, folder: str | None = None) -> list[str]:
        """The key of every picture of a tenant, of a folder, or of every tenant; sorted."""
        return self._blobs.list("" if folder is None else f"{folder}/")

    def written_at(self, key: str) -> datetime:
        """When a picture was written.

        Raises:
            NotFound: it is gone.
        """
        return self._blobs.written_at(key)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete pictures and their pixels, those that are there; returns how many there were."""
        return self._blobs.delete(filter(has_picture, keys))

    def delete_drafts(self, before: datetime, folder: str = "") -> int:
        """Delete what a kill in the middle of a write left before a moment, in a folder or in all; returns how much."""
        return self._blobs.delete_drafts(before, folder)

    def delete_empty_folders(self, before: datetime) -> None:
        """Delete the folders of the hours before a moment in which nothing is left."""
        last = _hour(before)
        self._blobs.delete_empty(lambda name: HOURS.fullmatch(name) is not None and name < last)

    def ping(self) -> None:
        """Return if the filesystem answers."""
        self._blobs.ping()


def _folder(tenant: str, moment: datetime) -> str:
    return f"{tenant}/{_hour(moment)}"


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%d%H}"
