"""The index by which a removal finds former values that it names: a hash of 64 bits for each.

An amendment records the former fields of an image. Where a removal names such a value, the record must go, although the
image does not have the value any more and is not covered. Former labels are not indexed: they stay in the history of an
image too. Hashes may collide: then a change of another image cannot be undone any more.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from visual_memory.services.removal.values_named_in_filters import value_name

INDEXED = ("file_name", "source", "subject")


def mention_hash(tenant: str, name: str) -> int:
    """The hash of a value, as `value_name` spells it: a signed number of 64 bits."""
    return int.from_bytes(blake2b(f"{tenant}\0{name}".encode(), digest_size=8).digest(), "big", signed=True)


def mentions_of(tenant: str, before: Mapping[str, Any]) -> set[int]:
    """The hashes of the values of former fields."""
    return {mention_hash(tenant, value_name(field, value)) for field, value in _values(before)}


def _values(before: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((field, before[field]) for field in INDEXED if before.get(field) is not None)
    yield from ((f"metadata.{field}", value) for field, value in (before.get("metadata") or {}).items())
