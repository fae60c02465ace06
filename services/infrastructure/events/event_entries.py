"""Convert events to and from entries of a tenant's stream.

An entry names images by masked ids of their points, which only this service can unmask, and only while an image exists
can the service tell which image a point is. So nothing that identifies a removed image is left in Redis, and no removal
has to delete from these streams.
"""

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from visual_memory.schemas.event import MAX_IMAGES
from visual_memory.schemas.image import point_id

BEFORE_ALL = "0-0"
"""The cursor of a stream without entries."""
CURSOR = re.compile(r"^[0-9]{1,19}-[0-9]{1,19}$")
UUID_BYTES = 16
NONCE_BYTES = 16
_EVENT, _POINTS = b"event", b"points"
_OBJECT = TypeAdapter(dict[str, Any])

Fields = Mapping[bytes, bytes]
Order = tuple[int, int]


def order(cursor: str) -> Order:
    """The sort key of cursors, which are ids of entries."""
    moment, _, number = cursor.partition("-")
    return int(moment), int(number)


@dataclass(frozen=True)
class EventEntries:
    """The streams of a service.

    Attributes:
        prefix: of all key names in Redis.
        key: masks ids of points; 32 bytes.
    """

    prefix: str
    key: bytes

    def stream(self, tenant: str) -> str:
        """The name of a tenant's stream."""
        return f"{self.prefix}events:{tenant}"

    def encode(self, tenant: str, event: Mapping[str, Any], image_ids: Collection[str]) -> dict[bytes, bytes]:
        """The fields of an entry.

        Args:
            tenant: the tenant.
            event: the event as JSON, without images.
            image_ids: the images; left out if they are more than `MAX_IMAGES`.
        """
        fields = {_EVENT: json.dumps(event, separators=(",", ":")).encode()}
        if 0 < len(image_ids) <= MAX_IMAGES:
            points = b"".join(UUID(point_id(tenant, image_id)).bytes for image_id in image_ids)
            nonce = secrets.token_bytes(NONCE_BYTES)
            fields[_POINTS] = nonce + self._masked(nonce, points)
        return fields

    def decode(self, fields: Fields) -> tuple[dict[str, Any], Sequence[str]]:
        """An event as JSON, and the ids of its images' points.

        Raises:
            ValueError, KeyError: the entry was not made by this service.
        """
        event, masked = _OBJECT.validate_json(fields.get(_EVENT, b"")), fields.get(_POINTS, b"")
        points = self._masked(masked[:NONCE_BYTES], masked[NONCE_BYTES:])
        return {**event, "type": str(event["type"])}, [
            str(UUID(bytes=points[start : start + UUID_BYTES])) for start in range(0, len(points), UUID_BYTES)
        ]

    def _masked(self, nonce: bytes, data: bytes) -> bytes:
        """Data with a key stream of this nonce; masking it twice gives it back."""
        mask = shake_256(self.key + nonce).digest(len(data))
        return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))
