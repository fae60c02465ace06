"""The removal log: a chain of signed entries for each tenant; no removal can be changed or left out unnoticed."""

import base64
import json
from collections.abc import Iterator
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from schemas.errors import NotFound
from schemas.image import now
from schemas.removal import Event, Removal, Seal
from services.memory.ledger import Ledger

ASKED = {"id", "filter", "everything", "reason", "block", "requested_by", "requested_at"}
FIRST = "0" * 64


class RemovalLog:
    """Appends to the logs of all tenants, and checks them.

    Args:
        ledger: where the entries are.
        key: 32 secret bytes, from which the signing key is made.
    """

    def __init__(self, ledger: Ledger, key: bytes) -> None:
        self._ledger = ledger
        self._signer = Ed25519PrivateKey.from_private_bytes(key)
        self.public_key = base64.b64encode(self._signer.public_key().public_bytes_raw()).decode()

    def append(self, tenant: str, event: Event, removal: Removal) -> Seal:
        """Write down what happened to a removal; durable when it returns. Twice the same is harmless."""
        while True:
            number, previous = self._end(tenant)
            entry = Seal(
                number=number + 1,
                tenant=tenant,
                removal=removal.id,
                event=event,
                at=now(),
                digest=digest_of(event, removal),
                previous=previous,
                key=self.public_key,
            )
            sealed = entry.model_copy(update={"signature": self._sign(entry)})
            if self._ledger.create(_key(tenant, sealed.number), sealed.model_dump(mode="json")):
                self._ledger.put(_end_key(tenant), sealed.number)
                return sealed

    def entries(self, tenant: str) -> Iterator[Seal]:
        """A tenant's entries in their order, as far as the chain goes."""
        number = 1
        while (entry := self._entry(tenant, number)) is not None:
            yield entry
            number += 1

    def faults(self, tenant: str) -> Iterator[str]:
        """What is wrong with a tenant's log: entries that are missing, out of place, changed, or signed by another."""
        previous, number = FIRST, 0
        for entry in self.entries(tenant):
            number += 1
            if (entry.number, entry.tenant) != (number, tenant):
                yield f"entry {number} of the log is another's: {entry.number} of {entry.tenant}"
            if entry.previous != previous:
                yield f"entry {number} of the log does not follow the one before: one of them was changed or taken out"
            if not self.signed(entry):
                yield f"entry {number} of the log has no valid signature of this service"
            previous = _digest(entry)
        if (written := len(self._ledger.list(f"log/{tenant}/"))) != number:
            yield f"the log breaks off at entry {number}, but there are {written}: entries were taken out"

    def signed(self, entry: Seal) -> bool:
        """Whether an entry was signed by this service."""
        try:
            signature = base64.b64decode(entry.signature, validate=True)
            self._signer.public_key().verify(signature, _canonical(entry, {"signature"}))
        except (InvalidSignature, ValueError):
            return False
        return True

    def _sign(self, entry: Seal) -> str:
        return base64.b64encode(self._signer.sign(_canonical(entry, {"signature"}))).decode()

    def _end(self, tenant: str) -> tuple[int, str]:
        """The number and the digest of the last entry; the hint of where it is may be behind, never ahead."""
        try:
            number = int(self._ledger.get(_end_key(tenant)))
        except NotFound:
            number = 0
        last = self._entry(tenant, number)
        while (following := self._entry(tenant, number + 1)) is not None:
            number, last = number + 1, following
        return number, FIRST if last is None else _digest(last)

    def _entry(self, tenant: str, number: int) -> Seal | None:
        try:
            return Seal.model_validate(self._ledger.get(_key(tenant, number)))
        except NotFound:
            return None


def digest_of(event: Event, removal: Removal) -> str:
    """The digest that an entry holds: of what was asked, or of the receipt without its seal."""
    if event is Event.REQUESTED:
        return sha256(_canonical(removal, set(Removal.model_fields) - ASKED)).hexdigest()
    return sha256(_canonical(removal, {"seal"})).hexdigest()


def _digest(entry: Seal) -> str:
    return sha256(_canonical(entry, set())).hexdigest()


def _canonical(model: BaseModel, without: set[str]) -> bytes:
    value = model.model_dump(mode="json", exclude=without)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _key(tenant: str, number: int) -> str:
    return f"log/{tenant}/{number:012d}"


def _end_key(tenant: str) -> str:
    return f"log-end/{tenant}"
