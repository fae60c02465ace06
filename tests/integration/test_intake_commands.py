"""The operator's commands for the intake, on a real Redis: passwords once, dead letters, and what the audit log has."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from tests.support.intake_redis import PASSWORD, IntakeServer, intake_server
from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.services.bootstrap.wiring.wire_records import audit_of, records_of
from visual_memory.services.cli.app import app
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.infrastructure.processes.private_redis import INTAKE_USER
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Status
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Result as Said
from visual_memory.services.settings import Settings


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server(port=free_port()) as started:
        yield started


@pytest.fixture
def settings(server: IntakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VISUAL_MEMORY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(
        "VISUAL_MEMORY_INTAKE__URL", f"redis://{INTAKE_USER}:{PASSWORD}@127.0.0.1:{server.settings.port}"
    )
    monkeypatch.chdir(tmp_path)
    return Settings()


def run(*words: str, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, ["intake", *words])
    assert ended.exit_code == code, ended.output
    return ended


def told(*words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]


def logged(settings: Settings, tenant: str) -> list[AuditEntry]:
    with records_of(settings) as database:
        return audit_of(settings, database).latest(tenant).data


def test_a_user_is_made_listed_and_removed(settings: Settings, server: IntakeServer) -> None:
    shown = run("user", "add", "camera", "--tenant", "north")
    password = shown.stdout.strip()
    assert "camera may send images to visual-memory:intake:north" in shown.stderr
    with closing(redis.Redis(port=server.settings.port or 0, username="camera", password=password)) as client:
        assert client.xadd("visual-memory:intake:north", {"event": "{}"})
    [eraser] = told("user", "add", "eraser", "--tenant", "north", "--removals")
    [waiter] = told("user", "add", "waiter", "--tenant", "north", "--results")
    assert (eraser["stream"], waiter["stream"]) == ("visual-memory:removals:north", "visual-memory:results:north")
    assert (eraser["unsaved"], len(eraser["password"])) == (None, 43)
    listed = told("user", "list")
    assert [(each["name"], each["role"]) for each in listed] == [
        ("camera", "send"),
        ("eraser", "removals"),
        ("waiter", "results"),
    ]
    assert password not in run("user", "list").stdout + json.dumps(listed)
    for name in ("camera", "eraser", "waiter"):
        assert f"{name} has no access any more" in run("user", "remove", name).stdout
    assert told("user", "list") == []
    lines = [(line.action, line.intake_user, line.outcome) for line in logged(settings, "north")]
    assert lines[-1] == ("intake.users.add", "camera", "done")
    assert lines[0] == ("intake.users.remove", "waiter", "done")
    assert len(lines) == 6


def test_what_cannot_be_a_user_is_said_in_a_sentence(settings: Settings) -> None:
    run("user", "add", "twice")
    assert "choose another name" in run("user", "add", "twice", code=1).stderr
    assert "is not the name of a tenant" in run("user", "add", "other", "--tenant", "No Tenant", code=1).stderr
    assert "two users" in run("user", "add", "other", "--removals", "--results", code=2).stderr
    assert "has no user" in run("user", "remove", "default", code=1).stderr
    run("user", "remove", "twice")
    assert logged(settings, "default")[1].outcome == "conflict"


def test_dead_letters_are_listed_put_back_and_dropped(settings: Settings, server: IntakeServer) -> None:
    streams = server.streams()
    for reason in ("first", "second", "third"):
        streams.add("south", json.dumps({"data": {"subject": "Ann"}, "id": reason}).encode())
        [entry] = streams.read("south", "reader", 1)
        streams.end("south", [Ended(entry, Said(entry.id, Status.REJECTED, reason, reason=f"the {reason} test"))])
    letters = told("dead", "list", "--tenant", "south")
    assert [each["event_id"] for each in letters] == ["first", "second", "third"]
    assert "rejected: the second test" in run("dead", "list", "--tenant", "south").stdout
    assert [*told("dead", "replay", letters[0]["id"], "--tenant", "south")[0]["replayed"]] == [letters[0]["id"]]
    assert told("dead", "drop", letters[1]["id"], "1-1", "--tenant", "south") == [{"dropped": 1}]
    assert run("dead", "replay", "--all", "--tenant", "south").stdout == "1 were put back\n"
    assert run("dead", "list", "--tenant", "south").stdout == ""
    assert len(streams.read("south", "reader", 10)) == 2
    run("dead", "drop", "--tenant", "south", code=2)
    run("dead", "drop", "1-1", "--all", "--tenant", "south", code=2)
    actions = [(line.action, line.images) for line in logged(settings, "south") if line.action != "read"]
    assert actions == [("intake.dead.replay", 1), ("intake.dead.drop", 1), ("intake.dead.replay", 1)]
    with records_of(settings) as database:
        looked = audit_of(settings, database).latest("south", subject="Ann").data
    assert {line.action for line in looked} == {"read"}
    assert [line.images for line in looked] == [3, 3]


def test_how_to_send_is_shown_without_any_password(settings: Settings, server: IntakeServer) -> None:
    shown = run("show", "--tenant", "north").stdout
    assert f"redis://NAME:PASSWORD@127.0.0.1:{server.settings.port} XADD visual-memory:intake:north" in shown
    [access] = told("show", "--tenant", "north")
    assert PASSWORD not in shown + json.dumps(access)
    assert access["celery"]["queue"] == "intake"
    assert access["celery"]["task"] == "visual_memory.remember_image"


def test_the_private_server_is_said_to_be_this_users_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL_MEMORY_INTAKE__URL")
    assert "VISUAL_MEMORY_INTAKE__PORT opens a port" in run("show").stdout
    monkeypatch.setenv("VISUAL_MEMORY_INTAKE__PORT", "6390")
    assert "redis://NAME:PASSWORD@127.0.0.1:6390" in run("show").stdout
