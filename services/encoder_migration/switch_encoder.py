"""Switch: another encoder classifies from now on; one record is replaced, once all that needs it is ready."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visual_memory.schemas.encoder import ActiveEncoder, EncoderSpec, FillCounts
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory import Memory

FILL_WAIT_SECONDS = 10.0
"""Seconds in which what came while the memories were judged gets its vectors."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class EncoderResources:
    """What there is of a memory by one encoder.

    Attributes:
        judge: judges a tenant's images by this encoder's vectors.
    """

    memory: Memory
    judgements: StoredJudgements
    judge: JudgeMemory


@dataclass(frozen=True)
class SwitchResult:
    """The encoder that classifies now, and the images of all tenants that do not vote under it.

    Attributes:
        judged: the tenants whose memories were judged by its vectors before the switch.
    """

    active: ActiveEncoder
    counts: FillCounts
    judged: Sequence[str]


@dataclass(frozen=True)
class SwitchEncoder:
    """The use case, with the parts that it needs.

    Attributes:
        of: what there is of the memory by an encoder.
    """

    records: EncoderRecords
    of: Callable[[EncoderSpec], EncoderResources]

    def __call__(self, name: str, progress: Progress = lambda *_: None) -> SwitchResult:
        """Let an encoder classify that has the vectors of all images which can have one.

        The memories whose judgements are used are judged by its vectors first; that takes as long as to judge them, and
        what was judged by the encoder of before stays beside it. Images without a picture, and those that could not be
        encoded, have no vector of it, so they do not vote until they are sent again.

        Raises:
            NotFound: there is no such encoder.
            Conflict: it is active already or being dropped, or images are left that it has no vectors of yet.
            InvalidRequest: a memory that was judged holds too many images by now.
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
        """Switch to the encoder that classified before; as otherwise.

        Raises:
            NotFound: there is none, or it was dropped.
        """
        active = self.records.active()
        before = active and active.before
        if not before:
            raise NotFound("no other encoder classified before, so there is none to switch back to")
        if before not in self.records.known():
            raise NotFound(f"{before} classified before and was dropped: add it again to go back to it")
        return self(before, progress)

    def _check_filled(self, memory: Memory, name: str, patience: float = 0.0) -> FillCounts:
        """Return once nothing is left to fill; what is accepted meanwhile gets all vectors at once."""
        deadline = time.monotonic() + patience
        while (counts := memory.missing_vectors.counts(None)).left and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if counts.left:
            raise Conflict(
                f"{counts.left} images have no vector of {name} yet, and would not vote: wait until they have"
                " ('visual-memory encoder status'), with the service running and the filling not paused"
            )
        return counts
