"""Receipts and log entries of version 1, as they were given out until records moved into a database: their check.

It is frozen. It reads plain JSON and none of our classes, so that no field that comes to a class can make a receipt
false that was handed out:

- a receipt is the record of a removal; its ``seal`` is the entry of the tenant's log which says that it was done, or
  that its bytes were erased;
- an entry holds the SHA-256 of the receipt without its seal (of what was asked, where it says that a removal was
  requested), the SHA-256 of the entry before, the public key, and a signature (Ed25519) of all that;
- digests and signatures are made of JSON with sorted keys and without blanks, in UTF-8.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ASKED = ("id", "filter", "everything", "reason", "block", "requested_by", "requested_at")
_RECEIPT = {*_ASKED, "status", "images", "by_state", "pictures", "verified_at", "erasure", "seal"}
_ENTRY = {"number", "tenant", "removal", "event", "at", "digest", "previous", "key", "signature"}
_EVENTS = ("requested", "done", "erased")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_receipt(data: bytes) -> dict[str, Any]:
    """A receipt as it was handed out.

    Raises:
        ValueError: it is no JSON object, or a key stands in it twice, so that two readers may understand two things.
    """
    try:
        value = json.loads(data, object_pairs_hook=_each_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as what json raises
    return value


def is_version_1(receipt: Mapping[str, Any]) -> bool:
    """Whether something looks like a receipt of this version, right or wrong; later ones are signed texts."""
    return "payload" not in receipt and {"filter", "seal"} <= receipt.keys()


def check_receipt(receipt: Mapping[str, Any], public_key: str) -> list[str]:
    """What is wrong with a receipt of a removal that is done; nothing where it is valid.

    Args:
        receipt: as it was handed out.
        public_key: of the service that gave it, Ed25519, in base64.
    """
    if receipt.keys() != _RECEIPT:
        return [_other_fields(receipt, _RECEIPT)]
    seal = receipt["seal"]
    if not isinstance(seal, dict):
        return ["it has no seal, so it is no receipt yet"]
    faults = check_entry(seal, public_key)
    if faults:
        return faults
    if seal["event"] not in ("done", "erased"):
        faults.append("its seal says only that the removal was requested, not that it is done")
    elif seal["digest"] != digest_of(seal["event"], receipt):
        faults.append("it was changed after it was sealed")
    if seal["removal"] != receipt["id"]:
        faults.append("its seal is of another removal")
    if receipt["status"] != "done":
        faults.append("the removal is not done")
    if (receipt["erasure"] is not None) != (seal["event"] == "erased"):
        faults.append("what it says of the erasure is not what its seal says")
    return faults


def check_entry(entry: Mapping[str, Any], public_key: str) -> list[str]:
    """What is wrong with an entry of the log by itself: its form, its key, its signature; nothing where it is valid."""
    if entry.keys() != _ENTRY:
        return [_other_fields(entry, _ENTRY)]
    if not _is_entry(entry):
        return ["a field of the log's entry has another form"]
    if entry["key"] != public_key:
        return ["it was signed with the key of another service"]
    try:
        key = Ed25519PublicKey.from_public_bytes(_decoded(public_key))
        key.verify(_decoded(entry["signature"]), canonical(entry, without={"signature"}))
    except (InvalidSignature, ValueError):
        return ["its signature is not valid"]
    return []


def digest_of(event: str, receipt: Mapping[str, Any]) -> str:
    """The digest that an entry holds: of what was asked, or of the receipt without its seal."""
    if event == "requested":
        return sha256(canonical({field: receipt[field] for field in _ASKED})).hexdigest()
    return sha256(canonical(receipt, without={"seal"})).hexdigest()


def canonical(value: Mapping[str, Any], without: Iterable[str] = ()) -> bytes:
    """JSON with sorted keys and no blanks, in UTF-8, of which digests and signatures are made."""
    left_out = {*without}
    kept = {field: each for field, each in value.items() if field not in left_out}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")  # half a surrogate pair was never signed, and makes no error here


def _is_entry(entry: Mapping[str, Any]) -> bool:
    texts = _ENTRY - {"number"}
    return (
        type(entry["number"]) is int
        and entry["number"] >= 1
        and all(isinstance(entry[field], str) for field in texts)
        and entry["event"] in _EVENTS
        and all(_DIGEST.fullmatch(entry[field]) for field in ("digest", "previous"))
    )


def _decoded(text: str) -> bytes:
    """Bytes from base64.

    Raises:
        ValueError: it is none, or not in the one form that these bytes have.
    """
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("bits are left over")
    return data


def _other_fields(found: Mapping[str, Any], wanted: set[str]) -> str:
    missing, unknown = sorted(wanted - found.keys()), sorted(found.keys() - wanted)
    parts = (f"{word} {', '.join(fields)}" for word, fields in (("lacks", missing), ("has besides", unknown)) if fields)
    return f"its fields are not those of a receipt of version 1: it {' and '.join(parts)}"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands in it twice")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
