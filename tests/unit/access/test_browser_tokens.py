"""Tokens of browsers: only digests are stored, and a token ends by itself, when it is used up, and with its key."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from visual_memory.schemas.api_key import Key, KeyRequest, Scope
from visual_memory.schemas.errors import NotAuthorized
from visual_memory.services.access import api_keys
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.access.browser_tokens import SESSION, BrowserTokens, login_links_of, sessions_of
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database


@pytest.fixture
def key(database: Database, monkeypatch: pytest.MonkeyPatch) -> Key:
    monkeypatch.setattr(api_keys, "FRESH", 0.0)
    return ApiKeys(database).make(KeyRequest(name="reviewer", tenant="north", scopes=[Scope.READ])).key


def test_a_token_stands_for_its_key_and_is_not_stored(database: Database, key: Key) -> None:
    sessions = sessions_of(database)
    token = sessions.make(key)
    assert sessions.check(token.text) == token
    assert token.key == key
    with database.read() as connection:
        [row] = connection.execute(select(tables.sessions))
    assert token.text[4:] not in str(row)


def test_an_expired_token_is_refused_and_deleted_by_the_next(database: Database, key: Key) -> None:
    expired = BrowserTokens(database, tables.sessions, SESSION, timedelta(0))
    token = expired.make(key)
    with pytest.raises(NotAuthorized):
        expired.check(token.text)
    expired.make(key)
    with database.read() as connection:
        assert len(connection.execute(select(tables.sessions)).all()) == 1


@pytest.mark.parametrize("end", ["revoke", "rotate", "revoke_all"])
def test_tokens_end_with_their_key(database: Database, key: Key, end: str) -> None:
    keys, sessions, links = ApiKeys(database), sessions_of(database), login_links_of(database)
    tokens = [(sessions, sessions.make(key).text), (links, links.make(key).text)]
    if end == "revoke_all":
        keys.revoke_all()
    else:
        getattr(keys, end)(key.id)
    for store, text in tokens:
        with pytest.raises(NotAuthorized):
            store.check(text)


def test_a_login_link_opens_one_session_however_many_use_it_at_once(database: Database, key: Key) -> None:
    sessions, links = sessions_of(database), login_links_of(database)
    link = links.make(key).text

    def open_session(_: int) -> bool:
        try:
            sessions.make(key, lambda connection: links.end(connection, link))
        except NotAuthorized:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(open_session, range(8))) == 1
    with database.read() as connection:
        assert len(connection.execute(select(tables.sessions)).all()) == 1


@pytest.mark.parametrize("text", ["", "vms_", "vms_short", f"vml_{'A' * 43}", f"vms_{'A' * 43}", f"vms_{'é' * 43}"])
def test_what_is_no_session_is_refused(database: Database, text: str) -> None:
    with pytest.raises(NotAuthorized):
        sessions_of(database).check(text)
