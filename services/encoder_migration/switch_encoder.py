"""Switch to another encoder: one record is replaced, once all that classification needs is ready."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visual_memory.schemas.encoder import ActiveEncoder, EncoderSpec, FillCounts
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory_facade import Memory

FILL_WAIT_SECONDS = 10.0
"""How long a switch waits for the vectors of images that arrived during the judgements."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EncoderResources:
    """The memory, judgements and judge with the vectors of one encoder.

    Attributes:
        judge: judges a tenant's images.
    """

    memory: Memory
    judgements: StoredJudgements
    judge: JudgeMemory


@dataclass(frozen=True)
class SwitchResult:
    """The active encoder, and counts of the images of all tenants, with those that do not vote with its vectors.

    Attributes:
        judged: the tenants whose memories were judged with its vectors before the switch.
    """

    active: ActiveEncoder
    counts: FillCounts
    judged: Sequence[str]


@dataclass(frozen=True)
class SwitchEncoder:
    """The use case.

    Attributes:
        of: the resources of an encoder.
    """

    records: EncoderRecords
    of: Callable[[EncoderSpec], EncoderResources]

    def __call__(self, name: str, progress: Progress = lambda *_: None) -> SwitchResult:
        """Activate an encoder that has the vectors of all images that can have one.

        Memories whose judgements are in use are judged with its vectors first, which takes as long as judging does; the
        judgements with the previous encoder's vectors are kept. Images without a picture, and images that could not be
        encoded, have no vector and do not vote until they are sent again.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is active already or being dropped, or images lack its vectors.
            InvalidRequest: a judged memory has too many images by now.
        """
        spec, active = self.records.get(name), self.records.active()
        if active is None:
            raise Conflict("the memory has no encoder yet: start the service once")
        if active.name == name:
            raise Conflict(f"{name} is the encoder that classifies already")
        if name in self.records.dropping():
            raise Conflict(f"{name} is being dropped: add it again, or switch to another")
        new, old = self.of(spec), self.of(self.records.get(active.name))
        self._check_filled(new.memory, name)
        judged = [
            tenant
            for tenant in new.memory.images.tenants()
            if old.judgements.current(tenant) or new.judgements.current(tenant)
        ]
        for tenant in judged:
            new.judge.judge(tenant, progress)
        counts = self._check_filled(new.memory, name, FILL_WAIT_SECONDS)
        return SwitchResult(self.records.switch(name), counts, judged)

    def back(self, progress: Progress = lambda *_: None) -> SwitchResult:
        """Switch to the encoder that classified before the active one.

        Raises:
            NotFound: there is none, or it was dropped.
            Conflict, InvalidRequest: as for other encoders.
        """
        active = self.records.active()
        previous = active and active.before
        if not previous:
            raise NotFound("no other encoder classified before, so there is none to switch back to")
        if previous not in self.records.known():
            raise NotFound(f"{previous} classified before and was dropped: add it again to switch back to it")
        return self(previous, progress)

    def _check_filled(self, memory: Memory, name: str, wait_seconds: float = 0.0) -> FillCounts:
        """Wait until no vectors are missing; images that are accepted meanwhile get the vectors of all encoders.

        Raises:
            Conflict: some are still missing.
        """
        deadline = time.monotonic() + wait_seconds
        while (counts := memory.missing_vectors.counts(None)).left and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if counts.left:
            raise Conflict(
                f"{counts.left} images have no vector of {name} yet, and would not vote: wait until they have"
                " ('visual-memory encoder status'), with the service running and the filling not paused"
            )
        return counts
