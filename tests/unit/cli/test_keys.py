"""The commands for keys: they need no running service, show a secret once, and are in the audit log."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import NotAuthorized
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.bootstrap.wiring import wire_records as wire
from visual_memory.services.cli.app import app
from visual_memory.services.cli.commands.keys import make_first_key
from visual_memory.services.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VISUAL_MEMORY_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return Settings()


def keys_of(settings: Settings) -> ApiKeys:
    with ExitStack() as opened:
        return ApiKeys(wire.wire_records(settings, opened))


def audit_of(settings: Settings) -> AuditLog:
    with ExitStack() as opened:
        return wire.audit_of(settings, wire.wire_records(settings, opened))


def keys(*words: str, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, ["keys", *words])
    assert ended.exit_code == code, ended.output
    return ended


def told(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in keys(*words, "--json").stdout.splitlines()]


def test_make_list_rotate_revoke(settings: Settings) -> None:
    limits = ["--requests-per-minute", "60", "--bytes-per-minute", "1000"]
    [made] = told("make", "camera", "--tenant", "north", "--scope", "classify", "--scope", "remember", *limits)
    key = keys_of(settings).check(made["text"])
    assert (key.name, key.tenant, key.scopes) == ("camera", "north", [Scope.CLASSIFY, Scope.REMEMBER])
    assert (key.requests_per_minute, key.bytes_per_minute) == (60, 1000)

    listed = keys("list").stdout
    assert key.id in listed
    assert "camera" in listed
    assert made["text"].split("_", 2)[2] not in listed + json.dumps(told("list"))
    assert [each["id"] for each in told("list")] == [key.id]

    [rotated] = told("rotate", key.id)
    assert keys_of(settings).check(rotated["text"]) == key
    with pytest.raises(NotAuthorized):
        keys_of(settings).check(made["text"])

    assert "is revoked" in keys("revoke", key.id).stdout
    with pytest.raises(NotAuthorized):
        keys_of(settings).check(rotated["text"])
    lines = audit_of(settings).latest("north").data
    assert [line.action for line in lines] == ["keys.revoke", "keys.rotate", "keys.make"]
    assert {(line.by, line.about_key) for line in lines} == {("command line", key.id)}


def test_the_secret_alone_is_on_standard_output(settings: Settings) -> None:
    made = keys("make", "camera", "--scope", "classify")
    assert keys_of(settings).check(made.stdout.strip()).tenant == "default"
    assert "shown only once" in made.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["make", "camera"], 2, "--scope"),
        (["make", "camera", "--scope", "everything"], 1, "scopes.0"),
        (["make", "camera", "--scope", "admin", "--tenant", "../x"], 1, "tenant"),
        (["make", "camera", "--scope", "admin", "--requests-per-minute", "0"], 1, "requests_per_minute"),
        (["revoke", "0123456789ab"], 1, "there is no key '0123456789ab'"),
        (["rotate", "../secret"], 1, "there is no key"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_a_sentence(settings: Settings, words: list[str], code: int, says: str) -> None:
    assert says in keys(*words, code=code).stderr
    assert told("list") == []


def test_the_first_start_makes_a_key_and_shows_it_once(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    make_first_key(settings)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "export" in line]
    key = keys_of(settings).check(line.strip().removeprefix("export VISUAL_MEMORY_KEY="))
    assert (key.tenant, key.scopes) == ("default", [Scope.ADMIN])
    keys("revoke", key.id)
    make_first_key(settings)
    assert capsys.readouterr() == ("", "")
    assert len(keys_of(settings).all()) == 1, "a key that was revoked is not made up for"
