"""Promise 5: a key opens what it says and no more, and whoever reads the disk cannot make one of what is kept."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.errors import NotAuthorized, NotFound
from schemas.key import Key, KeyRequest, Scope
from services.access.keys import FRESH, Keys
from services.memory.ledger import Ledger
from tests.stack import until


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger)


def wanted(*scopes: Scope, **more: object) -> KeyRequest:
    given = {"name": "camera", "tenant": "north", "scopes": scopes or (Scope.CLASSIFY,), **more}
    return KeyRequest.model_validate(given)


def test_a_key_opens_what_it_was_made_for(keys: Keys) -> None:
    new = keys.make(wanted(Scope.CLASSIFY, Scope.REMEMBER, requests_per_minute=7, bytes_per_minute=8))
    key = keys.check(new.text)
    assert key == new.key == keys.all()[0]
    assert (key.name, key.tenant, key.requests_per_minute, key.bytes_per_minute) == ("camera", "north", 7, 8)
    assert [scope for scope in Scope if key.may(scope)] == [Scope.CLASSIFY, Scope.REMEMBER]


def test_admin_may_do_everything(keys: Keys) -> None:
    key = keys.make(wanted(Scope.ADMIN)).key
    assert all(key.may(scope) for scope in Scope)


def test_secrets_are_long_different_and_not_kept(keys: Keys, tmp_path: Path) -> None:
    texts = [keys.make(wanted()).text for _ in range(50)]
    assert len({text.split("_", 2)[1] for text in texts}) == len({text.split("_", 2)[2] for text in texts}) == 50
    assert {len(text) for text in texts} == {len("vm_") + 12 + len("_") + 43}, "43 characters hold 256 bits"
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept.count(b"digest") == 50
    assert not any(text.split("_", 2)[2].encode() in kept for text in texts)
    assert not any("digest" in key.model_dump() for key in keys.all())


BAD: list[tuple[str, Callable[[str], str]]] = [
    ("nothing", lambda _: ""),
    ("a blank", lambda _: " "),
    ("another kind", lambda _: "secret"),
    ("without the prefix", lambda text: text.removeprefix("vm_")),
    ("without the secret", lambda text: text[:15]),
    ("an empty secret", lambda text: text[:16]),
    ("too short", lambda text: text[:-1]),
    ("too long", lambda text: text + "x"),
    ("a new line behind it", lambda text: text + "\n"),
    ("upper case", str.upper),
    ("another secret", lambda text: text[:-1] + ("A" if text[-1] != "A" else "B")),
    ("another id", lambda text: "vm_" + "0" * 12 + text[15:]),
    ("a path", lambda text: "vm_../../../etc" + text[15:]),
    ("no ASCII", lambda text: text[:-1] + "é"),
    ("a lone surrogate", lambda text: text[:-1] + "\udce9"),
]


@pytest.mark.parametrize(("name", "spoil"), BAD, ids=[name for name, _ in BAD])
def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(
    keys: Keys, name: str, spoil: Callable[[str], str]
) -> None:
    new = keys.make(wanted())
    with pytest.raises(NotAuthorized) as wrong:
        keys.check(spoil(new.text))
    keys.revoke(new.key.id)
    with pytest.raises(NotAuthorized) as revoked:
        keys.check(new.text)
    assert wrong.value.message == revoked.value.message


def is_out(keys: Keys, text: str) -> bool:
    try:
        keys.check(text)
    except NotAuthorized:
        return True
    return False


def test_a_revoked_key_is_out_a_second_later_and_for_ever(keys: Keys, ledger: Ledger) -> None:
    new = keys.make(wanted())
    keys.check(new.text)
    elsewhere = Keys(ledger)
    revoked = elsewhere.revoke(new.key.id)
    assert elsewhere.revoke(new.key.id) == revoked, "the first moment stays"
    assert is_out(elsewhere, new.text)
    until(lambda: is_out(keys, new.text), "the key to be out", seconds=FRESH + 10)
    with pytest.raises(NotFound, match="is revoked"):
        keys.rotate(new.key.id)
    assert [key.revoked_at for key in keys.all()] == [revoked.revoked_at]


def test_a_rotated_key_keeps_all_but_its_secret(keys: Keys, ledger: Ledger) -> None:
    old = keys.make(wanted(Scope.REMOVE, requests_per_minute=3))
    keys.check(old.text)
    new = Keys(ledger).rotate(old.key.id)
    assert new.key == old.key
    until(lambda: not is_out(keys, new.text), "the new secret to be in", seconds=FRESH + 10)
    assert is_out(keys, old.text)


def test_a_key_is_at_hand_once_it_was_checked_and_known_once_it_was_looked_for(keys: Keys) -> None:
    text, stranger = keys.make(wanted()).text, f"vm_{0:012x}_{'A' * 43}"
    assert not keys.at_hand(text)
    keys.check(text)
    assert keys.at_hand(text)
    assert is_out(keys, stranger)
    assert not keys.at_hand(stranger), "nothing is kept of strangers"
    assert keys.knows(text) is None
    keys.look()
    assert keys.knows(text) == text.split("_")[1]
    assert keys.knows(text[:-1] + "!") is None
    assert keys.knows(stranger) is None
    assert keys.at_hand("no key at all"), "there is nothing to be asked"


@pytest.mark.parametrize("key_id", ["", "0" * 12, "../../secret", "0" * 13])
def test_a_key_that_nobody_has_is_told_by_name(keys: Keys, key_id: str) -> None:
    for change in (keys.revoke, keys.rotate):
        with pytest.raises(NotFound, match="'visual-memory keys list' shows them all"):
            change(key_id)


@pytest.mark.parametrize(
    "bad",
    [
        {"tenant": "../other"},
        {"tenant": "Other"},
        {"tenant": ""},
        {"name": ""},
        {"name": "a\nb"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"requests_per_minute": 0},
        {"bytes_per_minute": -1},
    ],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        wanted(**bad)
    assert next(iter(bad)) in str(refused.value.errors()[0]["loc"])


def test_a_key_is_shown_without_its_secret(keys: Keys) -> None:
    new = keys.make(wanted())
    assert isinstance(new.key, Key)
    assert new.text.split("_", 2)[2] not in new.key.model_dump_json()
