"""Receipts of version 1 that were handed out, and the logs of that time, stay valid; what is forged never is."""

import base64
import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from visual_memory.services.receipts.receipt_v1 import (
    canonical,
    check_entry,
    check_receipt,
    digest_of,
    is_version_1,
    parse_receipt,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
FOLDERS = ("data_folder_1", "data_folder_2")
Json = dict[str, Any]


@cache
def log_of(folder: str, tenant: str = "default") -> list[Json]:
    """The entries of a tenant's log, in their order."""
    with tarfile.open(FIXTURES / folder / "data.tar.xz") as packed:
        names = sorted(name for name in packed.getnames() if name.startswith(f"data/records/log/{tenant}/"))
        files = [packed.extractfile(name) for name in names]
        return [json.loads(file.read()) for file in files if file is not None]


def key_of(folder: str) -> str:
    return str(log_of(folder)[0]["key"])


def receipts_of(folder: str) -> dict[str, Json]:
    expected = json.loads((FIXTURES / folder / "expected.json").read_text())
    return dict(expected["receipts"])


HANDED_OUT = [(folder, name) for folder in FOLDERS for name in receipts_of(folder)]
ANN = receipts_of("data_folder_2")["ann-erased"]
KEY = key_of("data_folder_2")


@pytest.mark.parametrize(("folder", "name"), HANDED_OUT)
def test_what_was_handed_out_is_valid(folder: str, name: str) -> None:
    receipt = receipts_of(folder)[name]
    assert is_version_1(receipt)
    assert check_receipt(receipt, key_of(folder)) == []
    assert receipt["seal"] in log_of(folder, receipt["seal"]["tenant"])


@pytest.mark.parametrize("name", receipts_of("data_folder_2"))
def test_the_bytes_that_the_api_gave_are_read(name: str) -> None:
    data = (FIXTURES / "data_folder_2" / "receipts" / f"{name}.json").read_bytes()
    assert check_receipt(parse_receipt(data), KEY) == []


@pytest.mark.parametrize("name", ["asked", "marked", "deleting", "overlapping-first", "overlapping-second"])
def test_the_record_of_a_running_removal_is_no_receipt(name: str) -> None:
    record = parse_receipt((FIXTURES / "data_folder_2" / "receipts" / f"{name}.json").read_bytes())
    assert check_receipt(record, KEY) == ["it has no seal, so it is no receipt yet"]


def test_the_seal_of_a_request_makes_no_receipt() -> None:
    """Anybody who asked for a removal had such an entry, right from the log, before anything was done."""
    [asked] = [each for each in log_of("data_folder_2") if (each["removal"], each["event"]) == (ANN["id"], "requested")]
    assert asked["digest"] == digest_of("requested", ANN)
    for forged in (ANN | {"seal": asked}, ANN | {"seal": asked, "erasure": None, "images": 10**6}):
        assert "its seal says only that the removal was requested, not that it is done" in check_receipt(forged, KEY)


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each value that holds no further ones."""
    if not isinstance(value, dict):
        yield path
        return
    for field, each in value.items():
        yield from places(each, (*path, field))


def changed(value: Json, path: tuple[str, ...], new: object) -> Json:
    first, *rest = path
    return {**value, first: changed(value[first], tuple(rest), new) if rest else new}


@pytest.mark.parametrize("path", list(places(ANN)), ids=".".join)
@pytest.mark.parametrize("new", [None, True, 7, -1, 1.0, "", "0" * 64, "\ud800", [], {}, {"subject": "ann"}], ids=repr)
def test_no_value_can_be_another(path: tuple[str, ...], new: object) -> None:
    forged = changed(ANN, path, new)
    assert check_receipt(forged, KEY) or canonical(forged) == canonical(ANN)


@pytest.mark.parametrize("inside", [(), ("seal",), ("erasure",)], ids=["receipt", "seal", "erasure"])
def test_fields_are_neither_more_nor_fewer(inside: tuple[str, ...]) -> None:
    part = ANN
    for field in inside:
        part = part[field]

    def with_part(new: Json) -> Json:
        return changed(ANN, inside, new) if inside else new

    assert check_receipt(with_part({**part, "more": None}), KEY)
    for field in part:
        assert check_receipt(with_part({name: each for name, each in part.items() if name != field}), KEY)


def test_no_bit_of_its_bytes_can_be_another() -> None:
    data = (FIXTURES / "data_folder_2" / "receipts" / "ann-erased.json").read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 7)
        try:
            receipt = parse_receipt(bytes(flipped))
        except ValueError:
            continue
        assert check_receipt(receipt, KEY), (place, chr(data[place]), chr(flipped[place]))


def test_a_seal_is_of_one_removal_and_of_one_service() -> None:
    tom = receipts_of("data_folder_2")["tom"]
    assert check_receipt({**ANN, "seal": tom["seal"]}, KEY)
    assert check_receipt(ANN, key_of("data_folder_1")) == ["it was signed with the key of another service"]


def test_another_key_signs_nothing() -> None:
    other = Ed25519PrivateKey.generate()
    public = base64.b64encode(other.public_key().public_bytes_raw()).decode()
    forged = {**ANN, "images": 7}
    seal = {**ANN["seal"], "digest": digest_of("erased", forged), "key": public}
    seal["signature"] = base64.b64encode(other.sign(canonical(seal, without={"signature"}))).decode()
    assert check_receipt({**forged, "seal": seal}, public) == []
    assert check_receipt({**forged, "seal": seal}, KEY) == ["it was signed with the key of another service"]
    assert check_receipt({**forged, "seal": {**seal, "key": KEY}}, KEY) == ["its signature is not valid"]


@pytest.mark.parametrize(
    "data", [b'{"id": 1, "id": 2}', b"[]", b"1", b"", b"{", b'{"a": NaN}', b'{"a":' * 10**5, b"\xff"]
)
def test_what_is_no_receipt_is_no_json_object(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_receipt(data)


@pytest.mark.parametrize(
    ("folder", "tenant"), [("data_folder_1", "default"), ("data_folder_2", "default"), ("data_folder_2", "shop")]
)
def test_each_entry_of_a_log_is_valid_and_each_change_of_it_is_found(folder: str, tenant: str) -> None:
    key = key_of(folder)
    for entry in log_of(folder, tenant):
        assert check_entry(entry, key) == []
        assert check_entry(entry, key_of(FOLDERS[folder == FOLDERS[0]]))
        for field, value in entry.items():
            other = {**entry, field: value + 1 if isinstance(value, int) else value[:-1]}
            assert check_entry(other, key), field
