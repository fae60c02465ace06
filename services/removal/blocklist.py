"""What must not come back: contents and subjects that a removal refuses from then on.

A block is durable before the removal begins, is seen by every process at once, and survives a restored snapshot of the
collection, because it lies outside of it. It is a keyed digest: whoever reads the records learns no subject by trying.
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
AT_ONCE = 500


class Blocklist:
    """The blocked contents and subjects of each tenant.

    Args:
        database: where they are.
        key: 32 secret bytes, for this purpose alone.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key

    def add(self, connection: Connection, tenant: str, kind: str, values: Iterable[str], removal_id: str) -> None:
        """Refuse from now on what has these contents or vectors, or is of these subjects; as part of a transaction."""
        digests = sorted({self._digest(kind, value) for value in values})
        if digests:
            rows = [{"tenant": tenant, "kind": kind, "digest": digest, "removal": removal_id} for digest in digests]
            connection.execute(self._database.insert(blocks).on_conflict_do_nothing(), rows)

    def blocks(self, image: StoredImage) -> bool:
        """Whether this image must not be accepted."""
        return bool(self.among([image]))

    def block_any(self, tenant: str, kept: Iterable[tuple[str, str]]) -> bool:
        """Whether any of what is to be kept, each of a kind, is refused; it is looked at where there are blocks."""
        if not self._any(tenant):
            return False
        keys = {key for kind, value in kept for key in self._keys(kind, value)}
        return not keys.isdisjoint(self._existing(tenant, keys))

    def blocks_subject(self, tenant: str, subject: str) -> bool:
        """Whether images of a subject must not be accepted."""
        return self.block_any(tenant, [(SUBJECT, subject)])

    def among(self, images: Iterable[StoredImage]) -> list[StoredImage]:
        """Those of some images of one tenant that must not be accepted, in their order."""
        given = [*images]
        if not given or not self._any(given[0].tenant):
            return []
        keys = [(image, {*self._keys_of(image)}) for image in given]
        there = self._existing(given[0].tenant, {key for _, own in keys for key in own})
        return [image for image, own in keys if not there.isdisjoint(own)]

    def check(self, images: Iterable[StoredImage]) -> None:
        """Refuse blocked images.

        Raises:
            Blocked: the first of them that is blocked; the message names it.
        """
        for image in self.among(images):
            raise Blocked(f"image {image.image_id}: a removal refuses this content or subject from now on")

    def _keys_of(self, image: StoredImage) -> Iterator[tuple[str, str]]:
        """What would block it."""
        yield from self._keys(CONTENT, image.content_hash)
        if image.subject is not None:
            yield from self._keys(SUBJECT, image.subject)
        yield from ((VECTOR, self._digest(VECTOR, digest)) for digest in image.vector_digests)

    def _keys(self, kind: str, value: str) -> Iterator[tuple[str, str]]:
        """Kind and digest of what would block a value: earlier versions kept SHA-256 of the text as it was sent."""
        yield kind, self._digest(kind, value)
        for text in {value, *(unicodedata.normalize(form, value) for form in ("NFC", "NFD") if not value.isascii())}:
            yield kind, sha256(text.encode()).hexdigest()

    def _digest(self, kind: str, value: str) -> str:
        return hmac.digest(self._key, f"{kind}:{unicodedata.normalize('NFC', value)}".encode(), sha256).hex()

    def _any(self, tenant: str) -> bool:
        with self._database.read() as connection:
            return (
                connection.execute(select(blocks.c.digest).where(blocks.c.tenant == tenant).limit(1)).first()
                is not None
            )

    def _existing(self, tenant: str, keys: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        digests = sorted({digest for _, digest in keys})
        found: set[tuple[str, str]] = set()
        with self._database.read() as connection:
            for start in range(0, len(digests), AT_ONCE):
                asked = select(blocks.c.kind, blocks.c.digest).where(
                    blocks.c.tenant == tenant, blocks.c.digest.in_(digests[start : start + AT_ONCE])
                )
                found |= {(kind, digest) for kind, digest in connection.execute(asked)}
        return found
