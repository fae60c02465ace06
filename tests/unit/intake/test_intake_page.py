"""The page on the intake says what is so: its examples are taken, and its names are those of the settings."""

import json
import re
from pathlib import Path

import pytest

from tests.unit.test_settings import documented
from visual_memory.schemas.intake_event import IMAGE
from visual_memory.schemas.parse_intake_event import parse_event, parse_removal
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Status

PAGE = (Path(__file__).parents[3] / "docs" / "intake.md").read_text(encoding="utf-8")
EVENTS = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EVENTS)
def test_its_events_are_taken(text: str) -> None:
    raw = text.replace("BASE64", "AAAA").encode()
    read = parse_event if json.loads(raw)["type"] == IMAGE else parse_removal
    assert read(raw)


def test_it_has_events_of_both_kinds() -> None:
    assert {json.loads(text)["type"] for text in EVENTS} == {IMAGE, "visual-memory.removal.v1"}


def test_it_names_every_result() -> None:
    [table] = re.findall(r"^\| status \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*Status]


def test_its_settings_are_settings() -> None:
    named = {*re.findall(r"VISUAL_MEMORY_[A-Z_]+", PAGE)} - {"VISUAL_MEMORY_WATCH_URL"}
    assert named <= {*re.findall(r"VISUAL_MEMORY_[A-Z_]+", documented())}
