"""An evaluation through the real service: the command teaches nothing, shows a report, and a removal takes it away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_command_line import Cli, write
from tests.support.running_service import Stack, unique, until
from tests.support.shape_pictures import KINDS, picture
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.client.http_client import Client


@pytest.fixture
def tenant() -> str:
    return unique("evaluated")


@pytest.fixture
def client(stack: Stack, tenant: str) -> Iterator[Client]:
    """Of a tenant that has been taught some shapes."""
    with Client(stack.url, stack.new_key(tenant)) as client:
        client.add([(picture(kind), ImageFields(labels=[kind], subject=kind)) for kind in KINDS for _ in range(4)])
        until(lambda: {image.state for image in client.images().data} == {State.REMEMBERED}, "all to be remembered")
        yield client


def test_a_folder_is_evaluated_then_the_memory_itself_then_all_is_removed(
    stack: Stack, client: Client, tenant: str, tmp_path: Path
) -> None:
    cli = Cli(stack.url, client.key or "")
    for kind in KINDS:
        for number in range(2):
            write(tmp_path / "asked" / kind / f"{number}.png", kind)
    broken = tmp_path / "asked" / "disc" / "broken.png"
    broken.write_bytes(picture("disc")[:500])
    [told] = cli.json("evaluate", tmp_path / "asked", "--output", tmp_path / "of-folder", "-k", 3, code=3)
    assert (told["queries"], told["images"], told["k"], told["itself"]) == (8, 16, 3, False)
    assert told["accuracy"] > 0.8
    assert list(told["refused"]) == [str(broken)]
    written = json.loads((tmp_path / "of-folder" / "report.json").read_text())
    assert {**written, "refused": told["refused"]} == told
    assert len(client.images().data) == 16, "nothing of it is remembered"

    shown = cli("evaluate", "--self", "--filter", '{"subject": ["disc", "bars"]}', "--output", tmp_path / "of-itself")
    assert str(tmp_path / "of-itself" / "report.html") in shown.stdout
    assert "right by the rank vote of 7; 8 queries" in shown.stdout
    itself, folder = client.evaluations().data
    assert {itself.state, folder.state} == {JobState.DONE}
    assert itself.summary is not None
    assert itself.summary.queries == itself.summary.images == 8
    files = stack.data / "evaluations" / tenant
    assert len([path for path in files.rglob("*") if path.is_file()]) == 2, "a report of each"

    removed = client.remove(RemovalRequest(filter=Filter({"subject": "disc"}), reason="asked to"))
    assert removed.images == 4
    assert client.evaluations().data == []
    assert [path for path in files.rglob("*") if path.is_file()] == []
    with pytest.raises(NotFound):
        client.report(itself.id)


def test_a_wrong_command_is_a_sentence(stack: Stack, client: Client, tmp_path: Path) -> None:
    cli = Cli(stack.url, client.key or "")
    nothing = ("evaluate", "--self", "--filter", '{"subject": "nobody"}', "--output", tmp_path)
    assert "the evaluation failed: " in cli(*nothing, code=1).stderr
    broken = tmp_path / "asked" / "disc" / "broken.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no picture")
    assert "no picture was accepted" in cli("evaluate", tmp_path / "asked", "--output", tmp_path, code=1).stderr
    assert [each.state for each in client.evaluations().data] == [JobState.FAILED]
    assert "Usage" in cli("evaluate", "--output", tmp_path, code=2).stderr
