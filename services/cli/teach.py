"""Teach: send many pictures in requests of a good size, and follow them until they are remembered."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.progress import Progress

from schemas.errors import Blocked, InvalidRequest, TooLarge, UnsupportedFormat
from schemas.filter import Filter
from schemas.image import State
from services.cli.sources import Found
from services.client import Client

MOST_PICTURES = 32
MOST_BYTES = 16 * 2**20
POLL = 0.3
IDS_AT_ONCE = 200
"""So many ids of 64 characters fit into a URL."""


@dataclass
class Outcome:
    """What became of the pictures; `refused` and `rejected` say why, by file or image id."""

    sent: int = 0
    remembered: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def teach(client: Client, found: Sequence[Found], progress: Progress, *, wait: bool) -> Outcome:
    """Send pictures, then wait until each is remembered or rejected (if `wait`)."""
    outcome, image_ids = Outcome(), []
    sending = progress.add_task("sent", total=len(found))
    for batch in _batches(found):
        image_ids += _send(client, batch, outcome)
        progress.advance(sending, len(batch))
    outcome.sent = len(image_ids)
    if wait:
        _follow(client, list(dict.fromkeys(image_ids)), outcome, progress)
    return outcome


def _batches(found: Sequence[Found]) -> Iterator[list[Found]]:
    batch: list[Found] = []
    size = 0
    for each in found:
        batch.append(each)
        size += each.path.stat().st_size
        if len(batch) == MOST_PICTURES or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _send(client: Client, batch: Sequence[Found], outcome: Outcome) -> list[str]:
    """Send a batch; where it is refused, its pictures one by one, so that only the bad ones stay out."""
    try:
        return [each.image_id for each in client.add([(found.path.read_bytes(), found.fields) for found in batch])]
    except (InvalidRequest, UnsupportedFormat, TooLarge, Blocked) as error:
        if len(batch) == 1:
            outcome.refused[str(batch[0].path)] = error.message
            return []
        return [image_id for found in batch for image_id in _send(client, [found], outcome)]


def _follow(client: Client, image_ids: Sequence[str], outcome: Outcome, progress: Progress) -> None:
    following = progress.add_task("remembered", total=len(image_ids))
    for start in range(0, len(image_ids), IDS_AT_ONCE):
        waiting = list(image_ids[start : start + IDS_AT_ONCE])
        while waiting:
            images = list(client.images(Filter.model_validate({"image_id": waiting})))
            outcome.rejected |= {each.image_id: each.reason or "" for each in images if each.state is State.REJECTED}
            outcome.remembered += sum(each.state in (State.REMEMBERED, State.MUTED) for each in images)
            progress.update(following, completed=outcome.remembered + len(outcome.rejected))
            waiting = [each.image_id for each in images if each.state is State.WAITING]
            if waiting:
                time.sleep(POLL)
