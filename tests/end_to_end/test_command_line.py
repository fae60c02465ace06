"""The command line: what people and scripts get, and exit codes that mean something."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Ended, run_command
from tests.support.running_service import Stack, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.services.infrastructure.task_queue.job_records import Jobs


class Cli:
    """`visual-memory` against the running service."""

    def __init__(self, url: str, key: str) -> None:
        self.environment = {"VISUAL_MEMORY_URL": url, "VISUAL_MEMORY_KEY": key, "COLUMNS": "200", "NO_COLOR": "1"}

    def __call__(self, *words: object, code: int = 0, answer: str = "") -> Ended:
        ended = run_command(*map(str, words), settings=self.environment, answer=answer)
        assert ended.returncode == code, f"{ended.stdout}\n{ended.stderr}"
        return ended

    def process(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """A command as the shell runs it."""
        around = {name: value for name, value in os.environ.items() if not name.startswith("VISUAL_MEMORY_")}
        command = [sys.executable, "-m", "visual_memory.services.cli", *map(str, words)]
        return subprocess.run(
            command, env={**around, **self.environment}, capture_output=True, text=True, timeout=120, check=False
        )

    def json(self, *words: object, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*words, "--json", code=code).stdout.splitlines()]


@pytest.fixture(scope="module")
def cli(stack: Stack) -> Cli:
    return Cli(stack.url, stack.client.key or "")


def write(path: Path, kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(kind))
    return path


def test_add_a_folder_then_classify_then_remove(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    source = unique("folder")
    for number in range(3):
        write(tmp_path / "shape" / "disc" / f"{number}.png", "disc")
        write(tmp_path / "bars" / f"{number}.PNG", "bars")
    (tmp_path / "bars" / "notes.txt").write_text("not a picture, and not meant to be one")
    shown = cli("add", tmp_path, "--source", source)
    assert "6 sent, 6 remembered" in shown.stdout
    assert sorted(tuple(image.labels) for image in stack.held({"source": source}).values()) == [
        *[("bars",)] * 3,
        *[("shape/disc",)] * 3,
    ]

    latest, *_, first = cli.json("images", "--source", source)
    assert cli.json("images", "--source", source, "--sort", "accepted_at", "--limit", 1) == [first]
    similar = cli.json("images", "--source", source, "--similar-to", latest["image_id"], "--limit", 9)
    assert len(similar) == 5
    assert latest["image_id"] not in {each["image_id"] for each in similar}
    assert latest["image_id"] in cli("images", "--source", source).stdout
    assert "accepted_at" in cli("images", "--sort", "labels", code=1).stderr

    asked = [write(tmp_path / "q1.png", "disc"), write(tmp_path / "q2.png", "bars")]
    answers = cli.json("classify", *asked, "-k", 3, "--source", source)
    assert [answer["label"] for answer in answers] == ["shape/disc", "bars"]
    assert [answer["picture"] for answer in answers] == list(map(str, asked))
    shown = cli("classify", asked[0], "--source", source, "--show", 1)
    assert f"{asked[0]}: shape/disc" in shown.stdout

    options = ("--level", 1, "--back-off", 0.5, "--as-of", "2126-01-31T12:00:00Z", "--source", source)
    [above] = cli.json("classify", asked[0], "-k", 3, *options)
    assert (above["label"], above["options"]["as_of"]) == ("shape", "2126-01-31T12:00:00Z")
    unjudged = Cli(stack.url, stack.new_key(unique("unjudged")))
    assert (
        "visual-memory judge"
        in unjudged("classify", asked[0], "--unknown-above", 0.99, "--coverage", 0.9, code=1).stderr
    )

    refused = cli("remove", "--source", source, "--label", "shape", "--reason", "a test", code=1, answer="n\n")
    assert "3 images would be removed: 3 remembered" in refused.stdout
    assert len(stack.held({"source": source})) == 6
    [looked] = cli.json("preview-removal", "--source", source)
    assert (looked["by_state"], looked["by_source"]) == ({"remembered": 6}, {source: 6})
    assert "by label: 3 bars, 3 shape/disc" in cli("preview-removal", "--source", source).stdout
    assert "--dry-run" in cli("remove", "--source", source, "--reason", "a test", "--yes", "--dry-run", code=2).stderr
    assert len(stack.held({"source": source})) == 6
    [receipt] = cli.json("remove", "--source", source, "--label", "shape", "--reason", "a test", "--yes")
    assert (receipt["status"], receipt["images"], receipt["reason"]) == ("done", 3, "a test")
    assert [image.labels for image in stack.held({"source": source}).values()] == [["bars"]] * 3
    agreed = cli("remove", "--source", source, "--reason", "a test", answer="y\n")
    assert "Receipt" in agreed.stdout
    assert stack.held({"source": source}) == {}
    [nobody] = cli.json("classify", asked[0], "--source", source)
    assert nobody["label"] is None
    assert nobody["reason"]


def test_a_stored_decision_is_listed_and_explained(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    source = unique("explained")
    label = unique("label")
    near = stack.teach(picture("disc"), labels=[label], source=source)
    stack.remembered([*near, *stack.teach(picture("bars"), labels=["other"], source=source)])
    question = write(tmp_path / "q.png", "disc")
    [decision] = cli.json("classify", question, "--source", source, "-k", 1, "--store")
    assert [each["id"] for each in cli.json("decisions", "list", "--label", label)] == [decision["id"]]
    [stored] = cli.json("decisions", "show", decision["id"])
    [replay] = cli.json("decisions", "replay", decision["id"], "--without", near[0])
    assert stored["decision"]["label"] == replay["before"] == label
    assert (replay["changed"], replay["decision"]["label"]) == (True, "other")
    [counterfactual] = cli.json("decisions", "counterfactual", decision["id"])
    assert counterfactual["becomes"] == "other"
    assert [each["image_id"] for each in counterfactual["images"]] == near
    assert f"today: {label} again" in cli("decisions", "replay", decision["id"]).stdout
    assert "without these it would be other" in cli("decisions", "counterfactual", decision["id"]).stdout
    [influence] = cli.json("decisions", "influence", "--last", 1)
    assert [each["image_id"] for each in influence["images"]] == near
    cli("decisions", "delete", decision["id"])
    assert cli.json("decisions", "list", "--label", label) == []


def test_what_is_worth_a_look_is_listed_claimed_and_marked(cli: Cli, tmp_path: Path) -> None:
    question = write(tmp_path / "q.png", "disc")
    [decision] = cli.json("classify", question, "--source", unique("nowhere"), "--store")

    def queue(*words: str) -> list[str]:
        return [each["id"] for each in cli.json("review", "list", "--kind", "decision", "--limit", 1000, *words)]

    assert decision["id"] in queue()
    [mine] = [each for each in cli.json("review", "claim", "--limit", 100) if each["id"] == decision["id"]]
    assert mine["claimed_by"]
    assert decision["id"] in cli("review", "list").stdout
    cli("review", "claim", "--release")
    cli("review", "mark", "decision", decision["id"])
    assert decision["id"] not in queue()
    assert decision["id"] in queue("--reviewed")
    cli("review", "mark", "decision", decision["id"], "--undo")
    assert decision["id"] in queue()


def test_add_a_csv_manifest(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    source, image_id = unique("csv"), unique("image")
    write(tmp_path / "pictures" / "a.png", "disc")
    write(tmp_path / "pictures" / "b.png", "bars")
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "labels", "image_id", "subject", "captured_at", "metadata.age", "metadata.site"])
        rows.writerow(["pictures/a.png", "disc|round", image_id, "ann", "2026-01-01T00:00:00Z", "7", "north"])
        rows.writerow(["pictures/b.png", "bars", "", "", "", "", ""])
    [outcome] = cli.json("add", tmp_path / "manifest.csv", "--source", source)
    assert outcome == {"sent": 2, "remembered": 2, "other_labels": 0, "refused": {}, "rejected": {}}
    image = stack.client.image(image_id)
    assert (image.labels, image.subject, image.source) == (["disc", "round"], "ann", source)
    assert image.metadata == {"age": 7, "site": "north"}
    assert len(stack.held({"source": source})) == 2


def test_add_a_jsonl_manifest(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    image_id = unique("image")
    write(tmp_path / "a.png", "disc")
    line = {"path": "a.png", "labels": ["disc"], "image_id": image_id, "metadata": {"age": 8}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    assert "1 sent, 1 remembered" in cli("add", tmp_path / "manifest.jsonl").stdout
    assert stack.client.image(image_id).metadata == {"age": 8}


def test_a_broken_picture_stays_out_and_the_others_come_in(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    source = unique("broken")
    write(tmp_path / "disc" / "good-1.png", "disc")
    write(tmp_path / "disc" / "good-2.png", "disc")
    broken = tmp_path / "disc" / "broken.png"
    broken.write_bytes(picture("disc")[:500])
    [outcome] = cli.json("add", tmp_path, "--source", source, code=3)
    assert (outcome["sent"], outcome["remembered"]) == (2, 2)
    assert list(outcome["refused"]) == [str(broken)]
    assert "ends too early" in outcome["refused"][str(broken)]
    assert len(stack.held({"source": source})) == 2


def test_status(cli: Cli, stack: Stack) -> None:
    label = unique("status")
    stack.remembered(stack.teach(picture("disc"), labels=[label]))
    [told] = cli.json("status")
    assert told["ready"] is True
    assert told["parts"]["broker"]["ok"] is True
    assert told["labels"][label] == 1
    assert "ok    store" in cli("status").stdout
    [told] = cli.json("status", "--usage")
    assert told["usage"]["images"]["remembered"] > 0
    assert len(told["usage"]["days"]) == 30
    assert "picture bytes accepted" in cli("status", "--usage").stdout


def test_status_without_a_key_tells_the_parts_alone(stack: Stack) -> None:
    stranger = Cli(stack.url, "")
    stack.remembered(stack.teach(picture("disc"), labels=[unique("hidden")]))
    [told] = stranger.json("status")
    assert told["parts"]["broker"]["ok"] is True
    assert told["labels"] == {}
    refused = stranger("audit", code=1)
    assert "send a valid key" in refused.stderr
    assert "'visual-memory keys make' makes one" in refused.stderr


def test_audit(cli: Cli, stack: Stack) -> None:
    source = unique("audited")
    stack.teach(picture("disc"), picture("bars"), labels=["x"], source=source)
    [receipt] = cli.json("remove", "--source", source, "--reason", "a test", "--yes")
    removed, asked, sent = (line for line in cli.json("audit", "--limit", 4) if line["action"] != "read")
    assert (removed["action"], removed["removal"], removed["images"]) == ("remove", receipt["id"], 2)
    assert (asked["action"], asked["removal"], asked["outcome"]) == ("remove", receipt["id"], "running")
    assert (sent["action"], sent["images"], sent["by"], sent["outcome"]) == ("accept", 2, "own service", "done")
    assert f"removal {receipt['id']}" in cli("audit").stdout


def test_a_refusal_is_a_sentence(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", "disc")
    refused = cli("classify", path, "--filter", '{"colour": "red"}', code=1)
    assert "there is no field 'colour'" in refused.stderr
    assert refused.stdout == ""
    assert "k: must be 1 or more" in cli("classify", path, "-k", 0, code=1).stderr
    (tmp_path / "empty").mkdir()
    assert "no pictures" in cli("add", tmp_path / "empty", code=1).stderr
    assert "everything" in cli("remove", "--reason", "x", "--yes", code=1).stderr


def test_what_is_wrongly_given_is_exit_code_2(cli: Cli, tmp_path: Path) -> None:
    assert "Missing" in cli("remove", "--subject", "ann", code=2).stderr
    assert "does not exist" in cli("classify", tmp_path / "nowhere.png", code=2).stderr
    assert "No such command" in cli("remember", code=2).stderr


def test_a_process_ends_with_the_exit_code(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "disc" / "good.png", "disc")
    (tmp_path / "disc" / "broken.png").write_bytes(picture("disc")[:500])
    for words, code, said in ((("status",), 0, ""), (("add", tmp_path), 3, ""), (("audit", "-x"), 2, "No such option")):
        ended = cli.process(*words)
        assert (ended.returncode, said in ended.stderr, "Traceback" in ended.stderr) == (code, True, False), ended


def test_nobody_there_is_a_sentence(cli: Cli) -> None:
    refused = cli("status", "--url", "http://127.0.0.1:1", code=1)
    assert "nothing answers at http://127.0.0.1:1" in refused.stderr


def test_a_url_that_is_none_is_a_sentence(cli: Cli) -> None:
    assert "nowhere" in cli("status", "--url", "nowhere", code=1).stderr


@pytest.mark.parametrize(
    "command", ["", "up", "add", "classify", "evaluate", "remove", "status", "audit", "keys", "worker", "api", "demo"]
)
def test_help(cli: Cli, command: str) -> None:
    assert "Usage:" in cli(*command.split(), "--help").stdout


def test_jobs_are_listed_shown_and_cancelled(stack: Stack, cli: Cli) -> None:
    unended = Jobs(stack.database).create(stack.tenant, JobKind.JUDGEMENT, "a test", JobState.COLLECTING).id
    assert f"{unended}  judgement  collecting" in cli("job", "list", "--kind", "judgement").stdout
    [cancelled] = cli.json("job", "cancel", unended)
    assert (cancelled["state"], cli.json("job", "show", unended)) == ("cancelled", [cancelled])
    assert unended in cli("job", "list", "--state", "cancelled").stdout
    assert "the kinds are evaluation, judgement" in cli("job", "list", "--kind", "removal", code=1).stderr
