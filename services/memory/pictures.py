"""The pictures: bytes under keys that are new with each acceptance."""

import secrets
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from schemas.errors import NotFound
from services.memory.blobs import Blobs
from services.memory.payload import point_id
from services.memory.space import NEW

FOLDERS = 256
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
        """A key that was never given before, under the tenant's folder.

        Pictures that come within a second lie together, so that one sync of their folder serves many.
        """
        point, folder = point_id(tenant, image_id), int(time.time()) % FOLDERS
        return f"{tenant}/{folder:02x}/{point}.{content_hash[:16]}.{uuid.uuid4().hex}"

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

    def all(self, tenant: str | None = None) -> list[str]:
        """The key of every picture of a tenant, or of every tenant; sorted."""
        return self._blobs.list("" if tenant is None else f"{tenant}/")

    def written_at(self, key: str) -> datetime:
        """When a picture was written.

        Raises:
            NotFound: it is gone.
        """
        return self._blobs.written_at(key)

    def delete(self, keys: Iterable[str]) -> int:
        """Delete pictures and their pixels, those that are there; returns how many there were."""
        return self._blobs.delete(filter(has_picture, keys))

    def delete_drafts(self, before: datetime) -> int:
        """Delete what a kill in the middle of a write left before a moment; returns how much."""
        return self._blobs.delete_drafts(before)

    def ping(self) -> None:
        """Return if the filesystem answers."""
        self._blobs.ping()
