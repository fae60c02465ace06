"""Check an entry of the log of receipts, or its sealed end: signature, fields, link to the entry before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from visual_memory.schemas.receipt import RECEIPTS, VERSION
from visual_memory.services.receipts import receipt_v1
from visual_memory.services.receipts.receipt_signature import END, ENTRY, RECEIPT, NotValid, ReceiptChecker, digest


@dataclass(frozen=True)
class LogEntry:
    """A row of the log.

    Attributes:
        text: the signed text; for the events in `RECEIPTS` it is the receipt, byte for byte.
        digest: SHA-256 of the text.
    """

    tenant: str
    number: int
    event: str
    removal: str
    at: datetime
    text: str
    digest: str
    version: int = VERSION


def entry_faults(entry: LogEntry, previous: str | None, checker: ReceiptChecker) -> Iterator[str]:
    """What is wrong with an entry, one sentence each.

    Args:
        entry: the entry.
        previous: the digest of the entry before; None: not checked.
        checker: of the service's key.
    """
    where = f"entry {entry.number} of the log"
    if digest(entry.text) != entry.digest:
        yield f"{where} was changed: its digest is another"
    try:
        fields = _signed_fields(entry, checker)
    except NotValid as error:
        yield f"{where}: {error}"
        return
    row = {"tenant": entry.tenant, "number": entry.number, "removal": entry.removal, "event": entry.event}
    if {name: fields.get(name) for name in row} != row or datetime.fromisoformat(fields["at"]) != entry.at:
        yield f"{where} does not match its row: its text is entry {fields.get('number')} of {fields.get('tenant')}"
    if previous is not None and fields.get("previous") != previous:
        yield f"{where} does not follow the one before: one of them was changed or taken out"


def end_faults(tenant: str, number: int, end_digest: str, seal: str, checker: ReceiptChecker) -> Iterator[str]:
    """What is wrong with the sealed end of a tenant's log, one sentence each.

    Args:
        tenant: the tenant.
        number: the number of the last entry.
        end_digest: the digest of the last entry.
        seal: the signed text that states both.
        checker: of the service's key.
    """
    try:
        signed = checker.read(seal)
    except NotValid as error:
        yield f"the sealed end of the log: {error}"
        return
    stated = (signed.payload.get("tenant"), signed.payload.get("number"), signed.payload.get("digest"))
    if signed.type != END or stated != (tenant, number, end_digest):
        yield "the sealed end of the log was changed"


def _signed_fields(entry: LogEntry, checker: ReceiptChecker) -> Mapping[str, Any]:
    if entry.version < VERSION:
        return _fields_of_version_1(entry.text, checker)
    signed = checker.read(entry.text)
    if signed.type != (RECEIPT if entry.event in RECEIPTS else ENTRY):
        raise NotValid("it is no entry of a log")
    return signed.payload


def _fields_of_version_1(text: str, checker: ReceiptChecker) -> Mapping[str, Any]:
    try:
        fields = receipt_v1.parse_receipt(text.encode())
    except ValueError:
        raise NotValid("it is damaged") from None
    for fault in receipt_v1.check_entry(fields, checker.key.base64):
        raise NotValid(fault)
    return fields
