"""Promise 5: a key opens what it says and no more, and whoever reads the disk cannot make one of what is kept."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, select

from tests.support.running_service import until
from visual_memory.schemas.api_key import Key, KeyRequest, Scope
from visual_memory.schemas.errors import NotAuthorized, NotFound, Unavailable
from visual_memory.services.access.api_keys import FRESH, ApiKeys
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database


@pytest.fixture
def keys(database: Database) -> ApiKeys:
    return ApiKeys(database)


def wanted(*scopes: Scope, **more: object) -> KeyRequest:
    given = {"name": "camera", "tenant": "north", "scopes": scopes or (Scope.CLASSIFY,), **more}
    return KeyRequest.model_validate(given)


def test_a_key_opens_what_it_was_made_for(keys: ApiKeys) -> None:
    new = keys.make(wanted(Scope.CLASSIFY, Scope.REMEMBER, requests_per_minute=7, bytes_per_minute=8))
    key = keys.check(new.text)
    assert key == new.key == keys.all()[0]
    assert (key.name, key.tenant, key.requests_per_minute, key.bytes_per_minute) == ("camera", "north", 7, 8)
    assert [scope for scope in Scope if key.may(scope)] == [Scope.CLASSIFY, Scope.REMEMBER]


def test_admin_may_do_everything(keys: ApiKeys) -> None:
    key = keys.make(wanted(Scope.ADMIN)).key
    assert all(key.may(scope) for scope in Scope)


def test_secrets_are_long_different_and_not_kept(keys: ApiKeys, database: Database) -> None:
    texts = [keys.make(wanted()).text for _ in range(50)]
    assert len({text.split("_", 2)[1] for text in texts}) == len({text.split("_", 2)[2] for text in texts}) == 50
    assert {len(text) for text in texts} == {len("vm_") + 12 + len("_") + 43}, "43 characters hold 256 bits"
    with database.read() as connection:
        kept = [str(row) for row in connection.execute(select(tables.keys))]
    assert len(kept) == 50
    assert not any(text.split("_", 2)[2] in row for text in texts for row in kept)
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
    keys: ApiKeys, name: str, spoil: Callable[[str], str]
) -> None:
    new = keys.make(wanted())
    with pytest.raises(NotAuthorized) as wrong:
        keys.check(spoil(new.text))
    keys.revoke(new.key.id)
    with pytest.raises(NotAuthorized) as revoked:
        keys.check(new.text)
    assert wrong.value.message == revoked.value.message


def is_out(keys: ApiKeys, text: str) -> bool:
    try:
        keys.check(text)
    except NotAuthorized:
        return True
    return False


def test_a_revoked_key_is_out_a_second_later_and_for_ever(keys: ApiKeys, database: Database) -> None:
    new = keys.make(wanted())
    keys.check(new.text)
    elsewhere = ApiKeys(database)
    revoked = elsewhere.revoke(new.key.id)
    assert elsewhere.revoke(new.key.id) == revoked, "the first moment stays"
    assert is_out(elsewhere, new.text)
    until(lambda: is_out(keys, new.text), "the key to be out", seconds=FRESH + 10)
    with pytest.raises(NotFound, match="is revoked"):
        keys.rotate(new.key.id)
    assert [key.revoked_at for key in keys.all()] == [revoked.revoked_at]


def test_a_rotated_key_keeps_all_but_its_secret(keys: ApiKeys, database: Database) -> None:
    old = keys.make(wanted(Scope.REMOVE, requests_per_minute=3))
    keys.check(old.text)
    new = ApiKeys(database).rotate(old.key.id)
    assert new.key == old.key
    until(lambda: not is_out(keys, new.text), "the new secret to be in", seconds=FRESH + 10)
    assert is_out(keys, old.text)


def test_a_key_is_at_hand_once_it_was_checked(keys: ApiKeys) -> None:
    text, stranger = keys.make(wanted()).text, f"vm_{0:012x}_{'A' * 43}"
    assert not keys.at_hand(text)
    keys.check(text)
    assert keys.at_hand(text)
    assert is_out(keys, stranger)
    assert not keys.at_hand(stranger), "nothing is kept of strangers"
    found = ApiKeys(keys._database).look([text, stranger, "no key at all"])
    assert [key.name for key, _ in found.values()] == ["camera"]
    assert keys.check(text, found).name == "camera"
    with pytest.raises(NotAuthorized):
        keys.check(stranger, found)
    assert keys.at_hand("no key at all"), "there is nothing to be asked"


@pytest.mark.parametrize("key_id", ["", "0" * 12, "../../secret", "0" * 13])
def test_a_key_that_nobody_has_is_told_by_name(keys: ApiKeys, key_id: str) -> None:
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


def test_a_key_is_shown_without_its_secret(keys: ApiKeys) -> None:
    new = keys.make(wanted())
    assert isinstance(new.key, Key)
    assert new.text.split("_", 2)[2] not in new.key.model_dump_json()


def test_a_change_that_cannot_be_logged_is_not_made(keys: ApiKeys) -> None:
    key = keys.make(wanted())

    def fail(_connection: Connection, _key: Key) -> None:
        raise Unavailable("a full disk")

    for change in (lambda: keys.make(wanted(), fail), lambda: keys.revoke(key.key.id, fail)):
        with pytest.raises(Unavailable):
            change()
    with pytest.raises(Unavailable):
        keys.rotate(key.key.id, fail)
    assert keys.all() == [key.key]
    assert keys.check(key.text) == key.key


def test_whether_a_key_was_ever_made(keys: ApiKeys) -> None:
    assert not keys.exist()
    keys.revoke(keys.make(wanted()).key.id)
    assert keys.exist()


def test_of_many_who_rotate_and_revoke_at_once_the_key_ends_revoked(keys: ApiKeys) -> None:
    key_id = keys.make(wanted()).key.id

    def change(number: int) -> None:
        with suppress(NotFound):
            if number % 4 == 3:
                keys.revoke(key_id)
            else:
                keys.rotate(key_id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(16)))
    [key] = keys.all()
    assert key.revoked_at is not None
