"""Whoever accepts and may do so no more leaves nothing behind, whenever it is noticed."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts
from visual_memory.schemas.image import ImageFields, State
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent


class Superseded(Exception):
    """Another reads the stream by now."""


@dataclass
class Ends:
    """A guard that notes what it is asked, and raises at the n-th time, counted from 1."""

    at: int = 0
    asked: list[str] = field(default_factory=list)

    def check_before(self) -> None:
        self._note("before")

    def check_after(self) -> None:
        self._note("after")

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) == self.at:
            raise Superseded


def accept(parts: Parts, fence: Ends, *uploads: tuple[str, bytes, dict[str, Any]], memory: object = None) -> None:
    sent = [
        Upload(data, ImageFields.model_validate({"labels": ["cat"], "image_id": name, **fields}))
        for name, data, fields in uploads
    ]
    parts.accept(memory=memory)(parts.tenant, sent, fence=fence)


def test_it_is_asked_around_each_write(parts: Parts) -> None:
    fence = Ends()
    accept(parts, fence, ("one", picture("disc"), {}))
    assert fence.asked == ["before", "before", "after"]
    assert parts.held("one")[0].state is State.WAITING


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_new_picture_is_gone_with_its_file(parts: Parts, at: int) -> None:
    with pytest.raises(Superseded):
        accept(parts, Ends(at), ("one", picture("disc"), {}), ("two", picture("bars"), {}))
    assert parts.memory.images.count(parts.tenant) == 0
    assert (parts.files(), parts.pixels()) == (set(), set())


@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_was_there_has_its_fields_again(parts: Parts, at: int) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one", labels=["dog"], source="camera")
    [before] = parts.held("one")
    with pytest.raises(Superseded):
        accept(parts, Ends(at), ("one", data, {"source": "web"}))
    [after] = parts.held("one")
    assert (after.labels, after.source, after.state) == (["dog"], "camera", State.REMEMBERED)
    assert after.picture == before.picture
    assert len(parts.files()) == 1


def test_what_was_replaced_by_another_since_stays(parts: Parts) -> None:
    """It is deleted by its picture's key alone, and that is another's."""
    newer = picture("bars")
    fence = Ends(3)
    memory = Hooked(parts.memory, Once("delete", lambda: parts.send(newer, image_id="one", labels=["bars"])))
    with pytest.raises(Superseded):
        accept(parts, fence, ("one", picture("disc"), {}), memory=memory)
    [image] = parts.held("one")
    assert image.labels == ["bars"]
    assert parts.pictures.read(image.picture) == newer
    assert len(parts.files()) == 1


def test_what_an_earlier_try_of_the_same_call_put_is_gone_too(parts: Parts) -> None:
    """One of two is overtaken, so that it is put anew, and only then the guard refuses."""
    other = picture("cross")
    race = Once("put", lambda: parts.send(other, image_id="two"))
    fence = Ends(5)
    with pytest.raises(Superseded):
        accept(
            parts, fence, ("one", picture("disc"), {}), ("two", picture("bars"), {}), memory=Hooked(parts.memory, race)
        )
    assert fence.asked == ["before", "before", "after", "before", "before"]
    [image] = parts.held("two")
    assert parts.pictures.read(image.picture) == other
    assert parts.memory.images.count(parts.tenant) == 1
    assert len(parts.files()) == 1


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_new_vector_is_gone(parts: Parts, at: int) -> None:
    encoder, two = parts.encoder.name, np.eye(2, parts.memory.dimension, dtype=np.float32)
    vectors = AcceptVectors(parts.accept().put, parts.memory, encoder)
    with pytest.raises(Superseded):
        vectors(parts.tenant, Sent(encoder, two, [ImageFields(labels=["a"])] * 2), fence=Ends(at))
    assert parts.memory.images.count(parts.tenant) == 0


def test_a_store_that_fails_is_asked_nothing_more(parts: Parts) -> None:
    """The point may be there all the same, and needs its picture."""

    def fail(name: str) -> None:
        if name == "put":
            raise TimeoutError

    fence = Ends()
    with pytest.raises(TimeoutError):
        accept(parts, fence, ("one", picture("disc"), {}), memory=Hooked(parts.memory, fail))
    assert fence.asked == ["before", "before"]
    assert len(parts.files()) == 1
