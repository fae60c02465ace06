"""The mirror's files: a copy of the log and of the digests of what was removed, on another disk or in an object store.

Each entry of a tenant's log is stored as ``TENANT/NUMBER.json``, and the tombstones and blocks of its removal in pages,
``TENANT/NUMBER.PAGE.json``. The entry's file is written last, is signed, and names its pages by their digests. Entries
are written in order, so a mirror has no gaps.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.receipts.check_log_entry import LogEntry
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
    """Digests that identify what a removal covered.

    Attributes:
        tombstones: of its pictures and images.
        blocks: kind and digest of each blocked value.
    """

    tombstones: Sequence[str] = ()
    blocks: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class MirroredEntry:
    """An entry in the mirror; `pages` are read one by one."""

    entry: LogEntry
    pages: Iterable[RemovedDigests]


class MirrorFiles:
    """The files of a mirror. Every method raises `Unavailable` if the storage does not answer.

    Args:
        url: a folder, or any fsspec URL.
        signer: of this service.
    """

    def __init__(self, url: str, signer: ReceiptSigner) -> None:
        self._blobs = BlobStore(url)
        self._signer = signer

    def write(self, entry: LogEntry, pages: Iterable[RemovedDigests]) -> None:
        """Write an entry with its pages, and read them back; durable when it returns. It can be repeated.

        Raises:
            Unavailable: it could not be written, or the mirror has another entry with this number.
        """
        if self.contains(entry):
            return
        digests = []
        for number, page in enumerate(pages):
            data = canonical_json({"tombstones": page.tombstones, "blocks": page.blocks})
            self._write(_page_key(entry, number), data)
            digests.append(sha256(data).hexdigest())
        fields = {
            "tenant": entry.tenant,
            "number": entry.number,
            "version": entry.version,
            "event": entry.event,
            "removal": entry.removal,
            "at": format_time(entry.at),
            "entry": entry.text,
            "pages": digests,
        }
        self._write(_key(entry.tenant, entry.number), self._signer.sign(MIRROR, fields).encode())

    def contains(self, entry: LogEntry) -> bool:
        """Whether the mirror has an entry; a partial file of a failed write does not count.

        Raises:
            Unavailable: the mirror has another entry with this number.
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
        """The number of the last entry; 0 if there is none."""
        return max(self._numbers(tenant), default=0)

    def tenants(self) -> Sequence[str]:
        """The tenants that have entries."""
        return self._blobs.top_folders()

    def entries(self, tenant: str, after: int = 0) -> Iterator[MirroredEntry]:
        """The entries of a tenant after a number, in order.

        Raises:
            NotValid: an entry was changed or is damaged; its pages raise it when they are read.
        """
        for number in sorted(each for each in self._numbers(tenant) if each > after):
            yield self.entry(tenant, number)

    def entry(self, tenant: str, number: int) -> MirroredEntry:
        """The entry with a number; raises the errors of `entries`."""
        where = f"entry {number} of the mirror"
        try:
            signed = self._signer.read((self._read(_key(tenant, number)) or b"").decode("ascii", "replace"))
        except NotValid as error:
            raise NotValid(f"{where}: {error}") from None
        fields = signed.payload
        if signed.type != MIRROR or (fields["tenant"], fields["number"]) != (tenant, number):
            raise NotValid(f"{where} does not match its name: it belongs to another entry")
        names = ("tenant", "number", "event", "removal")
        at, text = parse_time(fields["at"]), fields["entry"]
        text_digest = sha256(text.encode()).hexdigest()
        entry = LogEntry(
            **{name: fields[name] for name in names}, at=at, text=text, digest=text_digest, version=fields["version"]
        )
        return MirroredEntry(entry, _Pages(self, entry, fields["pages"]))

    def page(self, entry: LogEntry, number: int, digest: str) -> RemovedDigests:
        """A page of an entry.

        Raises:
            NotValid: the page is not the one that the entry names.
        """
        data = self._read(_page_key(entry, number)) or b""
        if sha256(data).hexdigest() != digest:
            raise NotValid(f"page {number} of entry {entry.number} of the mirror was changed, or is gone")
        fields = json.loads(data)
        return RemovedDigests(fields["tombstones"], [(kind, each) for kind, each in fields["blocks"]])

    def ping(self) -> None:
        """Return if the storage answers."""
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
    """The pages of an entry, read anew in each iteration."""

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
