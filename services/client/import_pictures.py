"""Send many pictures in batches, and wait until they are remembered."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from visual_memory.schemas.errors import Blocked, InvalidRequest, TooLarge, UnsupportedFormat
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Accepted, ImageFields, State
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.client.folders_and_manifests import PictureFile
from visual_memory.services.client.http_client import Client

MAX_PICTURES = 32
MAX_BYTES = 16 * 2**20
POLL = 0.3
IDS_AT_ONCE = 200
"""Ids of 64 characters that fit into a URL."""

Progress = Callable[[str, int, int], None]
"""Reports the stage, how much of it is done, and out of how much."""
Sent = TypeVar("Sent")
Add = Callable[[Sequence[tuple[bytes, ImageFields]]], Sequence[Sent]]
"""Sends pictures with their fields, all or none; returns a result for each."""


@dataclass
class ImportResult:
    """The result of an import.

    Attributes:
        other_labels: the number of images that are stored with other labels than were sent, and keep them.
        refused: reasons, by file.
        rejected: reasons, by image id.
    """

    sent: int = 0
    remembered: int = 0
    other_labels: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    def count(self, accepted: Collection[Accepted]) -> None:
        """Count accepted images."""
        self.sent += len(accepted)
        self.other_labels += sum(each.other_labels for each in accepted)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return asdict(self)


def teach(
    client: Client,
    number: int,
    found: Iterable[PictureFile],
    progress: Progress,
    *,
    wait: bool,
    label_rule: LabelRule = LabelRule.KEEP,
) -> ImportResult:
    """Send pictures, and with `wait` return when each is remembered or rejected.

    Args:
        client: a client of the service.
        number: the number of pictures, for the progress.
        found: the pictures.
        progress: reports how many are sent and remembered.
        wait: whether to wait.
        label_rule: what happens to the labels of images that are stored with others.
    """
    add = partial(client.add, label_rule=label_rule)
    outcome, image_ids = ImportResult(), dict[str, None]()  # an ordered set
    for accepted in send(add, found, lambda done: progress("sent", done, number), outcome.refused):
        outcome.count(accepted)
        if wait:
            image_ids |= dict.fromkeys(each.image_id for each in accepted)
    if wait:
        _follow(client, image_ids, outcome, progress)
    return outcome


def send(
    add: Add[Sent], found: Iterable[PictureFile], report: Callable[[int], object], refused: dict[str, str]
) -> Iterator[Sequence[Sent]]:
    """Send pictures in batches; each file is read when its batch is sent.

    Args:
        add: sends a batch, all or none.
        found: the pictures.
        report: called with the number of pictures that were sent or refused so far.
        refused: receives the reason of each refused picture, by its file.

    Yields:
        after each batch what `add` returned, for each accepted picture.
    """
    done = 0
    for batch in _batches(found):
        sent = _send(add, batch, refused)
        done += len(batch)
        report(done)
        yield sent


def _batches(found: Iterable[PictureFile]) -> Iterator[list[PictureFile]]:
    batch: list[PictureFile] = []
    size = 0
    for each in found:
        batch.append(each)
        size += each.path.stat().st_size
        if len(batch) == MAX_PICTURES or size >= MAX_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _send(add: Add[Sent], batch: Sequence[PictureFile], refused: dict[str, str]) -> Sequence[Sent]:
    """Send a batch; if it is refused, send its pictures one by one, so that only the invalid ones are refused."""
    try:
        return add([(found.path.read_bytes(), found.fields) for found in batch])
    except (InvalidRequest, UnsupportedFormat, TooLarge, Blocked) as error:
        if len(batch) == 1:
            refused[str(batch[0].path)] = error.every_fault
            return []
        return [sent for found in batch for sent in _send(add, [found], refused)]


def _follow(client: Client, image_ids: Collection[str], outcome: ImportResult, progress: Progress) -> None:
    left = iter(image_ids)
    while waiting := list(islice(left, IDS_AT_ONCE)):
        while waiting:
            images = list(client.iterate(client.images, Filter.model_validate({"image_id": waiting})))
            outcome.rejected |= {each.image_id: each.reason or "" for each in images if each.state is State.REJECTED}
            outcome.remembered += sum(each.state in (State.REMEMBERED, State.MUTED) for each in images)
            progress("remembered", outcome.remembered + len(outcome.rejected), len(image_ids))
            waiting = [each.image_id for each in images if each.state is State.WAITING]
            if waiting:
                time.sleep(POLL)
