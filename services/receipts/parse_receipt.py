"""Parse a receipt that somebody presents, and check its signature; this needs the public key only."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import RECEIPTS, TYPES, VERSION, Event
from visual_memory.services.receipts import receipt_v1
from visual_memory.services.receipts.receipt_signature import RECEIPT, NotValid, ReceiptChecker, digest

OTHER_FILTER = "it is of another filter"


@dataclass(frozen=True)
class Receipt:
    """A receipt with a valid signature.

    Attributes:
        event: done, erased or tenant_end.
        entry: the text of its entry in the log; for version 2 that is the receipt itself.
        fields: all its fields, as its version defines them.
    """

    version: int
    event: Event
    tenant: str
    removal: str
    number: int
    entry: str
    fields: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """The digest by which the log and an erasure's receipt refer to it."""
        return digest(self.entry)


def parse_receipt(text: str, checker: ReceiptChecker) -> Receipt:
    """Parse a receipt and check its signature; whitespace around it is ignored.

    Raises:
        NotValid: the text is no receipt, or was changed; the message is a sentence.
    """
    text = text.strip()
    earlier = _parse_version_1(text, checker)
    if earlier is not None:
        return earlier
    signed = checker.read(text)
    fields = signed.payload
    if signed.type != RECEIPT:
        raise NotValid("it is signed, but it is no receipt: it is an entry of the log that says something else")
    if fields.get("version") != VERSION:
        raise NotValid(f"it is of version {fields.get('version')}, which this version does not know")
    if fields.get("event") not in RECEIPTS or fields.get("type") != TYPES[Event(fields["event"])]:
        raise NotValid("it is no receipt of something that is done")
    tenant, removal, number = (fields.get(name) for name in ("tenant", "removal", "number"))
    if not isinstance(tenant, str) or not isinstance(removal, str) or not isinstance(number, int):
        raise NotValid("it does not say of what removal it is")
    return Receipt(VERSION, Event(fields["event"]), tenant, removal, number, text, fields)


def _parse_version_1(text: str, checker: ReceiptChecker) -> Receipt | None:
    """Parse a receipt of version 1, which is plain JSON; None if the text is of a later version, or no receipt."""
    try:
        fields = receipt_v1.parse_receipt(text.encode(errors="surrogatepass"))
    except ValueError:
        return None
    if not receipt_v1.is_version_1(fields):
        return None
    for fault in receipt_v1.check_receipt(fields, checker.key.base64):
        raise NotValid(fault)
    seal = fields["seal"]
    entry = receipt_v1.canonical(seal).decode()
    return Receipt(1, Event(seal["event"]), seal["tenant"], fields["id"], seal["number"], entry, fields)


def names_filter(receipt: Receipt, condition: Filter) -> bool:
    """Whether a receipt of version 1, which contains its filter, has this one."""
    try:
        return Filter.model_validate(receipt.fields["filter"]) == condition
    except ValidationError:  # a filter that is not valid any more
        return False
