"""Reads a receipt that somebody presents, which needs the public key and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from visual_memory.schemas.receipt import RECEIPTS, TYPES, VERSION, Event
from visual_memory.services.receipts import receipt_v1
from visual_memory.services.receipts.receipt_signature import RECEIPT, NotValid, ReceiptChecker, digest


@dataclass(frozen=True)
class Receipt:
    """A receipt whose signature is valid.

    Attributes:
        event: done, erased or tenant_end.
        entry: the text of its entry in the log; of version 2 the receipt itself.
        said: all that it says, in the fields of its version.
    """

    version: int
    event: Event
    tenant: str
    removal: str
    number: int
    entry: str
    said: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """By which the log and an erasure's receipt name it."""
        return digest(self.entry)


def parse_receipt(text: str, checker: ReceiptChecker) -> Receipt:
    """A receipt, where it is one and was signed as it stands; white space around it counts for nothing.

    Raises:
        NotValid: it is none, or was changed; the message is a sentence.
    """
    text = text.strip()
    earlier = _of_version_1(text, checker)
    if earlier is not None:
        return earlier
    signed = checker.read(text)
    said = signed.payload
    if signed.type != RECEIPT:
        raise NotValid("it is signed, but it is no receipt: it is an entry of the log that says something else")
    if said.get("version") != VERSION:
        raise NotValid(f"it is of version {said.get('version')}, which this version does not know")
    if said.get("event") not in RECEIPTS or said.get("type") != TYPES[Event(said["event"])]:
        raise NotValid("it is no receipt of something that is done")
    tenant, removal, number = (said.get(name) for name in ("tenant", "removal", "number"))
    if not isinstance(tenant, str) or not isinstance(removal, str) or not isinstance(number, int):
        raise NotValid("it does not say of what removal it is")
    return Receipt(VERSION, Event(said["event"]), tenant, removal, number, text, said)


def _of_version_1(text: str, checker: ReceiptChecker) -> Receipt | None:
    """A receipt of the first version, which is plain JSON; None where it is of a later one, or none at all."""
    try:
        said = receipt_v1.parse_receipt(text.encode(errors="surrogatepass"))
    except ValueError:
        return None
    if not receipt_v1.is_version_1(said):
        return None
    for fault in receipt_v1.check_receipt(said, checker.key.base64):
        raise NotValid(fault)
    seal = said["seal"]
    entry = receipt_v1.canonical(seal).decode()
    return Receipt(1, Event(seal["event"]), seal["tenant"], said["id"], seal["number"], entry, said)
