"""The mirror: a place of one's own, on another disk or in an object store, that knows what was removed.

For each entry of a tenant's log it has ``TENANT/NUMBER.json``: the entry, and by which digests what was removed is
known again, in pages of their own (``TENANT/NUMBER.PAGE.json``). The entry's file is written last, is signed, and names
its pages by their digests. Entries are written in their order, so that what is there is there without gaps.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.receipts.receipt_log import LogEntry
from visual_memory.services.receipts.receipt_signature import (
    MIRROR,
    NotValid,
    ReceiptSigner,
    canonical_json,
    format_time,
    parse_time,
)

HEAD = re.compile(r"(\d{12})\.json")


@dataclass(frozen=True)
class RemovedDigests:
    """By which digests what a removal covered is known again.

    Attributes:
        tombstones: digests of the keys of its pictures.
        blocks: kind and digest of what is refused from then on.
    """

    tombstones: Sequence[str] = ()
    blocks: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class MirroredEntry:
    """What the mirror has of an entry; `pages` are read one by one."""

    entry: LogEntry
    pages: Iterable[RemovedDigests]


class MirrorFiles:
    """The files of a mirror.

    Every method raises `Unavailable` where the place does not answer.

    Args:
        url: a folder or any fsspec URL.
        signer: of the service.
    """

    def __init__(self, url: str, signer: ReceiptSigner) -> None:
        self._blobs = BlobStore(url)
        self._signer = signer

    def write(self, entry: LogEntry, pages: Iterable[RemovedDigests]) -> None:
        """Write an entry with its pages, and read them back; durable when it returns. Twice the same is harmless.

        Raises:
            Unavailable: it could not be written, or another entry of this number is there.
        """
        if self.holds(entry):
            return
        digests = []
        for number, page in enumerate(pages):
            data = canonical_json({"tombstones": page.tombstones, "blocks": page.blocks})
            self._write(_page_key(entry, number), data)
            digests.append(sha256(data).hexdigest())
        said = {
            "tenant": entry.tenant,
            "number": entry.number,
            "version": entry.version,
            "event": entry.event,
            "removal": entry.removal,
            "at": format_time(entry.at),
            "entry": entry.text,
            "pages": digests,
        }
        self._write(_key(entry.tenant, entry.number), self._signer.sign(MIRROR, said).encode())

    def holds(self, entry: LogEntry) -> bool:
        """Whether an entry is there, whole; a file that a failed write left is not.

        Raises:
            Unavailable: another entry of this number is there.
        """
        try:
            found = self.entry(entry.tenant, entry.number).entry
        except NotValid:
            return False
        if found != entry:
            raise Unavailable(
                f"the mirror has another entry {entry.number} of {entry.tenant}: it is of another log; name a new,"
                " empty place"
            )
        return True

    def end(self, tenant: str) -> int:
        """The number of the last entry; 0 where there is none."""
        return max(self._numbers(tenant), default=0)

    def tenants(self) -> Sequence[str]:
        """Everybody who has entries."""
        return self._blobs.top_folders()

    def entries(self, tenant: str, after: int = 0) -> Iterator[MirroredEntry]:
        """The entries of a tenant after a number, in their order.

        Raises:
            NotValid: one is damaged, or is not as it was written; while its pages are read, for one of them.
        """
        for number in sorted(each for each in self._numbers(tenant) if each > after):
            yield self.entry(tenant, number)

    def entry(self, tenant: str, number: int) -> MirroredEntry:
        """One entry; errors as in `entries`."""
        where = f"entry {number} of the mirror"
        try:
            signed = self._signer.read((self._read(_key(tenant, number)) or b"").decode("ascii", "replace"))
        except NotValid as error:
            raise NotValid(f"{where}: {error}") from None
        said = signed.payload
        if signed.type != MIRROR or (said["tenant"], said["number"]) != (tenant, number):
            raise NotValid(f"{where} is another's")
        names = ("tenant", "number", "event", "removal")
        at, text = parse_time(said["at"]), said["entry"]
        text_digest = sha256(text.encode()).hexdigest()
        entry = LogEntry(
            **{name: said[name] for name in names}, at=at, text=text, digest=text_digest, version=said["version"]
        )
        return MirroredEntry(entry, _Pages(self, entry, said["pages"]))

    def page(self, entry: LogEntry, number: int, digest: str) -> RemovedDigests:
        """A page of an entry, which must be the one that it names."""
        data = self._read(_page_key(entry, number)) or b""
        if sha256(data).hexdigest() != digest:
            raise NotValid(f"page {number} of entry {entry.number} of the mirror was changed, or is gone")
        said = json.loads(data)
        return RemovedDigests(said["tombstones"], [(kind, each) for kind, each in said["blocks"]])

    def ping(self) -> None:
        """Return if the place answers."""
        self._blobs.ping()

    def _numbers(self, tenant: str) -> Iterator[int]:
        for key in self._blobs.list(f"{tenant}/"):
            if found := HEAD.fullmatch(key.rpartition("/")[2]):
                yield int(found[1])

    def _write(self, key: str, data: bytes) -> None:
        if self._read(key) == data:
            return
        self._blobs.write(key, data)
        if self._read(key) != data:
            raise Unavailable(f"the mirror does not give back what was written to it: {key}")

    def _read(self, key: str) -> bytes | None:
        try:
            return self._blobs.read(key)
        except NotFound:
            return None


@dataclass(frozen=True)
class _Pages:
    """The pages of an entry, read as often as they are gone through."""

    mirror: MirrorFiles
    entry: LogEntry
    digests: Sequence[str]

    def __iter__(self) -> Iterator[RemovedDigests]:
        for number, digest in enumerate(self.digests):
            yield self.mirror.page(self.entry, number, digest)


def _key(tenant: str, number: int) -> str:
    return f"{tenant}/{number:012d}.json"


def _page_key(entry: LogEntry, page: int) -> str:
    return f"{entry.tenant}/{entry.number:012d}.{page:06d}.json"
