"""Receipts are bytes: signed once, checked by anybody, and valid for ever, whatever our classes become."""

import json
from base64 import urlsafe_b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from visual_memory.schemas.filter import Filter
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.parse_receipt import parse_receipt
from visual_memory.services.receipts.receipt_signature import NotValid, ReceiptChecker, ReceiptSigner

KEPT = Path(__file__).parents[2] / "fixtures" / "receipts_2"
"""Receipts that a service gave once; they are never made anew."""
RECEIPTS = sorted(path.name for path in KEPT.glob("*.receipt.json"))
CHECKER = ReceiptChecker.of((KEPT / "key.jwk").read_text())


def kept(name: str) -> str:
    return (KEPT / name).read_text()


@pytest.mark.parametrize("name", RECEIPTS)
def test_receipts_that_were_given_stay_valid(name: str) -> None:
    receipt = parse_receipt(kept(name), CHECKER)
    assert (receipt.version, f"{receipt.fields['type']}.receipt.json") == (2, name)


def test_the_receipts_that_were_given_say_what_they_said() -> None:
    removal, erasure = (parse_receipt(kept(f"{kind}.receipt.json"), CHECKER) for kind in ("removal", "erasure"))
    expected = json.loads(kept("expected.json"))
    assert [removal.fields, erasure.fields] == [expected["removal"], expected["erasure"]]
    assert erasure.fields["receipt"] == removal.digest
    digests = FilterDigests(bytes.fromhex(expected["salt_key"]))
    assert digests.of(removal.removal, Filter(expected["filter"])) == removal.fields["filter_digest"]


def by_hand(text: str, key: dict[str, str]) -> bool:
    """RFC 7515, sections 5.2 and 7.2.2, and RFC 8037, section 3.1, in a few lines; without our code or joserfc."""

    def decoded(part: str) -> bytes:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))

    members = json.loads(text)
    header = json.loads(decoded(members["protected"]))
    thumbprint = {name: key[name] for name in ("crv", "kty", "x")}  # RFC 7638
    digest = sha256(json.dumps(thumbprint, sort_keys=True, separators=(",", ":")).encode()).digest()
    if header["alg"] != "EdDSA" or decoded(header["kid"]) != digest:
        return False
    signed = f"{members['protected']}.{members['payload']}".encode()
    Ed25519PublicKey.from_public_bytes(decoded(key["x"])).verify(decoded(members["signature"]), signed)
    return True


@pytest.mark.parametrize("name", RECEIPTS)
def test_any_jose_tool_checks_a_receipt(name: str) -> None:
    assert by_hand(kept(name), json.loads(kept("key.jwk")))


@given(data=st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    text = kept(data.draw(st.sampled_from(RECEIPTS))).strip()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda each: each != text[place]))
    with pytest.raises(NotValid):
        CHECKER.read(text[:place] + other + text[place + 1 :])


@given(data=st.data())
def test_a_byte_more_or_less_is_found(data: st.DataObject) -> None:
    text = kept(data.draw(st.sampled_from(RECEIPTS))).strip()
    place = data.draw(st.integers(0, len(text) - 1))
    more = data.draw(st.characters(max_codepoint=0x2FF))
    for changed in (text[:place] + text[place + 1 :], text[:place] + more + text[place:], text[:place]):
        with pytest.raises(NotValid):
            CHECKER.read(changed)


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_nothing_else_is_a_receipt(text: str) -> None:
    with pytest.raises(NotValid):
        parse_receipt(text, CHECKER)


def test_the_same_in_another_form_is_not_the_receipt() -> None:
    text = kept("removal.receipt.json")
    members = json.loads(text)
    assert parse_receipt(f"\n{text}\n", CHECKER)  # as a file has it that was copied
    for other in (
        json.dumps(members),
        json.dumps(members, indent=2),
        json.dumps({**members, "header": {}}, separators=(",", ":")),
        json.dumps({**members, "header": {"kid": "x"}}, separators=(",", ":")),
        text.replace('"signature"', '"signature":"","signature"'),
        json.dumps({**members, "payload": None}, separators=(",", ":")),
        "[" + text + "]",
    ):
        with pytest.raises(NotValid):
            parse_receipt(other, CHECKER)


def test_what_is_signed_but_no_receipt_is_none() -> None:
    """The entry of a request is signed by the same key, and says the same but for what was done."""
    with pytest.raises(NotValid, match="no receipt"):
        parse_receipt(kept("request.entry.json"), CHECKER)
    signer = ReceiptSigner(b"k" * 32)
    done = {"version": 2, "type": "removal", "event": "done", "tenant": "ann", "removal": "r", "number": 1}
    assert parse_receipt(signer.sign("visual-memory-receipt", done), signer)
    for wrong in (
        {"event": "requested"},
        {"type": "erasure"},
        {"event": "erased"},
        {"event": "requested", "type": "request"},
        {"event": "other"},
        {"version": 3},
        {"version": None},
        {"number": "1"},
        {"tenant": None},
    ):
        with pytest.raises(NotValid):
            parse_receipt(signer.sign("visual-memory-receipt", {**done, **wrong}), signer)
    with pytest.raises(NotValid):
        parse_receipt(signer.sign("visual-memory-log-entry", done), signer)


def test_another_key_or_algorithm_is_refused() -> None:
    done = {"version": 2, "type": "removal", "event": "done", "tenant": "ann", "removal": "r", "number": 1}
    with pytest.raises(NotValid, match="another key"):
        parse_receipt(ReceiptSigner(b"f" * 32).sign("visual-memory-receipt", done), CHECKER)


def test_a_public_key_is_read_in_both_forms() -> None:
    signer = ReceiptSigner(b"k" * 32)
    text = signer.sign("anything", {"said": "é"})
    for form in (signer.key.model_dump_json(), signer.key.base64, f" {signer.key.base64}\n"):
        assert ReceiptChecker.of(form).read(text).payload == {"said": "é"}
        assert ReceiptChecker.of(form).key == signer.key
    for wrong in (
        "",
        "{}",
        "[]",
        "AAAA",
        "{",
        '{"kty":"OKP","crv":"X25519","x":"AAAA"}',
        '{"kty":"OKP","crv":"Ed25519"}',
    ):
        with pytest.raises(ValueError, match="no public key"):
            ReceiptChecker.of(wrong)


FILTERS = st.dictionaries(st.sampled_from(["subject", "source", "labels"]), st.text(max_size=5), max_size=3)


@given(FILTERS, FILTERS, st.uuids(), st.uuids())
def test_a_digest_is_of_one_filter_and_one_removal(
    one: dict[str, str], other: dict[str, str], removal: object, another: object
) -> None:
    digests = FilterDigests(b"s" * 32)
    of_one = digests.of(str(removal), Filter.model_validate(one))
    assert of_one == digests.of(str(removal), Filter.model_validate(dict(reversed(one.items()))))
    assert of_one != FilterDigests(b"t" * 32).of(str(removal), Filter.model_validate(one))
    if removal != another:
        assert of_one != digests.of(str(another), Filter.model_validate(one))


def test_a_digest_is_the_same_in_every_spelling() -> None:
    digests = FilterDigests(b"s" * 32)
    composed, decomposed = ("Jos\u00e9", "Jose\u0301")
    assert digests.of("r", Filter({"subject": composed})) == digests.of("r", Filter({"subject": decomposed}))
    assert digests.of("r", Filter({"subject": composed})) != digests.of("r", Filter({"subject": "Jose"}))
