"""Check receipts and log entries of version 1, which were issued until records moved into a database.

This module is frozen. It reads plain JSON and none of our classes, so that a new field of a class cannot invalidate a
receipt that was issued:

- a receipt is the record of a removal; its ``seal`` is the entry of the tenant's log which states that the removal is
  done, or that its bytes are erased;
- an entry contains the SHA-256 of the receipt without its seal (of the request, if the entry states the request), the
  SHA-256 of the entry before, the public key, and an Ed25519 signature of all that;
- digests and signatures are computed from JSON in UTF-8, with sorted keys and without whitespace.
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
    """Parse a receipt.

    Raises:
        ValueError: it is no JSON object, or a key occurs twice, so that two parsers may read different values.
    """
    try:
        value = json.loads(data, object_pairs_hook=_each_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as what json raises
    return value


def is_version_1(receipt: Mapping[str, Any]) -> bool:
    """Whether JSON looks like a receipt of this version, valid or not; later versions are signed texts."""
    return "payload" not in receipt and {"filter", "seal"} <= receipt.keys()


def check_receipt(receipt: Mapping[str, Any], public_key: str) -> list[str]:
    """What is wrong with a receipt of a finished removal; empty if it is valid.

    Args:
        receipt: the parsed receipt.
        public_key: the Ed25519 key of the service that issued it, in base64.
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
    """What is wrong with the form, key or signature of an entry of the log; empty if it is valid."""
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
    """The digest that an entry contains: of the request, or of the receipt without its seal."""
    if event == "requested":
        return sha256(canonical({field: receipt[field] for field in _ASKED})).hexdigest()
    return sha256(canonical(receipt, without={"seal"})).hexdigest()


def canonical(value: Mapping[str, Any], without: Iterable[str] = ()) -> bytes:
    """Serialise for digests and signatures: JSON in UTF-8, with sorted keys and without whitespace."""
    left_out = {*without}
    kept = {field: each for field, each in value.items() if field not in left_out}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")  # a lone surrogate was never signed, and must not raise here


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
    """Decode base64.

    Raises:
        ValueError: the text is not base64, or not the canonical form of its bytes.
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
