"""The blocklist: contents, vectors and subjects that are refused after a removal.

A block is committed before the removal begins, every process sees it at once, and it survives a restored snapshot of
the collection because it is stored in the records' database. Values are stored as keyed digests, so a reader of the
records cannot test whether a subject is among them.
"""

import hmac
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256

from sqlalchemy import Connection, select

from visual_memory.schemas.errors import Blocked
from visual_memory.schemas.image import StoredImage
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import blocks

CONTENT, SUBJECT, VECTOR = "content", "subject", "vector"
BATCH = 500


class Blocklist:
    """The blocked contents, vectors and subjects of each tenant.

    Args:
        database: the records' database.
        key: 32 secret bytes, used for nothing else.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def add(self, connection: Connection, tenant: str, kind: str, values: Iterable[str], removal_id: str) -> None:
        """Block values of one kind, as part of a transaction."""
        digests = sorted({self._digest(kind, value) for value in values})
        if digests:
            rows = [{"tenant": tenant, "kind": kind, "digest": digest, "removal": removal_id} for digest in digests]
            connection.execute(self._database.insert(blocks).on_conflict_do_nothing(), rows)

    def is_any_blocked(self, tenant: str, values: Iterable[tuple[str, str]]) -> bool:
        """Whether any of some pairs of kind and value is blocked; `values` is read only if the tenant has blocks."""
        if not self._has_blocks(tenant):
            return False
        keys = {key for kind, value in values for key in self._keys(kind, value)}
        return not keys.isdisjoint(self._existing(tenant, keys))

    def is_subject_blocked(self, tenant: str, subject: str) -> bool:
        """Whether images of a subject must not be accepted."""
        return self.is_any_blocked(tenant, [(SUBJECT, subject)])

    def blocked_among(self, images: Iterable[StoredImage]) -> list[StoredImage]:
        """The blocked ones among images of one tenant, in their order."""
        given = [*images]
        if not given or not self._has_blocks(given[0].tenant):
            return []
        keys = [(image, {*self._keys_of(image)}) for image in given]
        blocked = self._existing(given[0].tenant, {key for _, own in keys for key in own})
        return [image for image, own in keys if not blocked.isdisjoint(own)]

    def check(self, images: Iterable[StoredImage]) -> None:
        """Refuse blocked images.

        Raises:
            Blocked: one of the images is blocked; the message names the first.
        """
        for image in self.blocked_among(images):
            raise Blocked(f"image {image.image_id}: its content or subject was blocked by a removal")

    def _keys_of(self, image: StoredImage) -> Iterator[tuple[str, str]]:
        """Every key that would block an image."""
        yield from self._keys(CONTENT, image.content_hash)
        if image.subject is not None:
            yield from self._keys(SUBJECT, image.subject)
        yield from ((VECTOR, self._digest(VECTOR, digest)) for digest in image.vector_digests)

    def _keys(self, kind: str, value: str) -> Iterator[tuple[str, str]]:
        """Every kind and digest that would block a value: earlier versions stored SHA-256 of the text as sent."""
        yield kind, self._digest(kind, value)
        for text in {value, *(unicodedata.normalize(form, value) for form in ("NFC", "NFD") if not value.isascii())}:
            yield kind, sha256(text.encode()).hexdigest()

    def _digest(self, kind: str, value: str) -> str:
        return hmac.digest(self._key, f"{kind}:{unicodedata.normalize('NFC', value)}".encode(), sha256).hex()

    def _has_blocks(self, tenant: str) -> bool:
        first = select(blocks.c.digest).where(blocks.c.tenant == tenant).limit(1)
        with self._database.read() as connection:
            return connection.execute(first).first() is not None

    def _existing(self, tenant: str, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        digests = sorted({digest for _, digest in keys})
        found: set[tuple[str, str]] = set()
        with self._database.read() as connection:
            for start in range(0, len(digests), BATCH):
                query = select(blocks.c.kind, blocks.c.digest).where(
                    blocks.c.tenant == tenant, blocks.c.digest.in_(digests[start : start + BATCH])
                )
                found |= {(kind, digest) for kind, digest in connection.execute(query)}
        return found
