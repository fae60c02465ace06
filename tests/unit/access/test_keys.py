"""Promise 5: a key opens what it says and no more, and whoever reads the disk cannot make one of what is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from schemas.errors import NotAuthorized, NotFound
from schemas.key import Key, KeyRequest, Scope
from services.access.keys import FRESH, MOST_HELD, Keys
from services.memory.ledger import Ledger


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    time: float = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def keys(ledger: Ledger, clock: Clock) -> Keys:
    return Keys(ledger, clock)


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


def test_a_revoked_key_is_out_a_second_later_and_for_ever(keys: Keys, ledger: Ledger, clock: Clock) -> None:
    new = keys.make(wanted())
    keys.check(new.text)
    elsewhere = Keys(ledger, clock)
    revoked = elsewhere.revoke(new.key.id)
    assert elsewhere.revoke(new.key.id) == revoked, "the first moment stays"
    clock.time += FRESH
    with pytest.raises(NotAuthorized):
        keys.check(new.text)
    with pytest.raises(NotFound, match="is revoked"):
        keys.rotate(new.key.id)
    assert [key.revoked_at for key in keys.all()] == [revoked.revoked_at]


def test_a_rotated_key_keeps_all_but_its_secret(keys: Keys, ledger: Ledger, clock: Clock) -> None:
    old = keys.make(wanted(Scope.REMOVE, requests_per_minute=3))
    keys.check(old.text)
    new = Keys(ledger, clock).rotate(old.key.id)
    assert new.key == old.key
    clock.time += FRESH
    assert keys.check(new.text) == old.key
    with pytest.raises(NotAuthorized):
        keys.check(old.text)


def test_a_key_that_was_checked_is_at_hand_for_a_second(keys: Keys, clock: Clock) -> None:
    text = keys.make(wanted()).text
    assert not keys.at_hand(text)
    keys.check(text)
    assert keys.at_hand(text)
    clock.time += FRESH
    assert not keys.at_hand(text)


def test_keys_that_nobody_has_are_remembered_too_but_not_without_end(keys: Keys) -> None:
    texts = [f"vm_{number:012x}_{'A' * 43}" for number in range(MOST_HELD + 10)]
    for text in texts:
        with pytest.raises(NotAuthorized):
            keys.check(text)
    assert keys.at_hand(texts[-1])
    assert sum(map(keys.at_hand, texts)) <= MOST_HELD


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
