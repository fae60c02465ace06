"""A switch to another encoder while questions are asked: each answer is wholly of one, and none is refused.

The other encoder is the same network over pictures as they were prepared before, and its vectors are exchanged between
the two classes: whoever compared one encoder's vectors with those of the other would be found out by the label.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import httpx
import numpy as np
import pytest

from tests.support.running_service import ENCODER, Stack, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions, Prune
from visual_memory.schemas.decision import Decision, Decisions
from visual_memory.schemas.encoder import EncoderSpec, EncoderSummary, FillSettings
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.explanation import DecisionPreviewRequest, ReplayRequest
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.bootstrap.wiring.wire_removal import judgements_of
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.open_engine import open_engine

EACH = 6
THREADS = 4
BY_JUDGEMENT = ClassifyOptions(k=3, prune=Prune.SOFT, coverage=0.9, unknown_above=1)
OPTIONS = (ClassifyOptions(k=3), BY_JUDGEMENT)
LABELS = {"disc": "bars", "bars": "disc"}


@dataclass
class Memories:
    """A service that has remembered pictures of two classes, and the operator's hands on its records."""

    stack: Stack
    records: EncoderRecords
    old: Memory
    pictures: dict[str, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pictures = {label: [picture(label) for _ in range(EACH)] for label in LABELS}
        ids = [each for label, some in self.pictures.items() for each in self.stack.teach(*some, labels=[label])]
        self.stack.remembered(ids)

    def judge(self, memory: Memory, encoder: str) -> None:
        settings = self.stack.settings
        with records_of(settings) as database:
            judgements = judgements_of(settings, database, encoder)
            judge = JudgeMemory(memory, judgements, UpdateJudgementInput(memory, VectorCache(0), 100), 3)
            judge.judge(self.stack.tenant, lambda *_: None)

    def add(self) -> EncoderSpec:
        """Another encoder, with a vector of each image, and a judgement."""
        settings = EncoderSettings(precision="float32")
        identity = identify(settings, 1)
        spec = EncoderSpec(**identity.model_dump(), dimension=self.old.dimension, added_at=now())
        self.old.points.engine.add_vector(vector_name(spec.name), spec.dimension)
        self.records.add(spec)
        self.records.set_fill(spec.name, FillSettings(paused=True))  # or the worker gives the images vectors of its own
        encoder, memory = load_encoder(settings, spec), self.old.with_encoder(spec.name, spec.dimension)
        with (
            closing(SandboxPool(PictureLimits(10**6, 10**6), 20, 1)) as sandbox,
            ThreadPoolExecutor(1) as pool,
        ):
            decoder = Decoder(sandbox, pool, encoder.crop)
            vectors: dict[str, Vectors] = {
                label: encoder.encode([decoder.decode_one(self.stack.tenant, each) for each in some])
                for label, some in self.pictures.items()
            }
        held = {image.content_hash: image for image in memory.images.page(self.stack.tenant, [], 100)[0]}
        images = [held[sha256(each).hexdigest()] for label in LABELS for each in self.pictures[label]]
        memory.missing_vectors.store(images, np.concatenate([vectors[other] for other in LABELS.values()]))
        self.judge(memory, spec.name)
        return spec


@pytest.fixture
def memories(spare: Stack) -> Iterator[Memories]:
    engine = open_engine(spare.settings.store, DataPaths(spare.data).engine_socket, 20)
    with closing(Memory(engine, ENCODER, 1280, {})) as old:
        yield Memories(spare, EncoderRecords(spare.database), old)


@dataclass(frozen=True)
class Answer:
    """What was answered about a picture of a class."""

    asked: str
    decision: Decision


class Askers:
    """Threads that ask without a pause, each over a connection of its own."""

    def __init__(self, memories: Memories) -> None:
        self._memories, self._ended = memories, threading.Event()
        self.answers: list[list[Answer]] = [[] for _ in range(THREADS)]
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        stack, mine = self._memories.stack, self.answers[number]
        with stack.caller(stack.client.key) as http:
            while not self._ended.is_set():
                label = [*LABELS][len(mine) % 2]
                data = self._memories.pictures[label][len(mine) % EACH]
                answer = self._post(http, data, OPTIONS[number % 2])
                if answer.status_code != httpx.codes.OK:
                    self.refused.append(answer.text)
                    return
                [decision] = Decisions.model_validate_json(answer.content).decisions
                mine.append(Answer(label, decision))

    @staticmethod
    def _post(http: httpx.Client, data: bytes, options: ClassifyOptions) -> httpx.Response:
        return http.post("/v1/classify", files={"files": data}, data={"options": options.model_dump_json()})

    def until_all_by(self, encoder: str) -> None:
        """Wait until each has got some answers by an encoder."""

        def done() -> bool:
            last = [[each.decision.encoder for each in some[-5:]] for some in self.answers]
            return bool(self.refused) or all(some == [encoder] * 5 for some in last)

        until(done, f"answers by {encoder}")

    def end(self) -> list[list[Answer]]:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert not self.refused
        return self.answers


def test_every_answer_is_of_one_encoder_while_another_comes_and_the_first_comes_back(memories: Memories) -> None:
    stack, client = memories.stack, memories.stack.client
    memories.judge(memories.old, ENCODER)
    [stored] = client.classify(memories.pictures["disc"][:1], ClassifyOptions(k=3, store=True)).decisions
    askers = Askers(memories)
    askers.until_all_by(ENCODER)
    spec = memories.add()
    askers.until_all_by(ENCODER)
    memories.records.switch(spec.name)
    askers.until_all_by(spec.name)
    memories.records.switch(ENCODER)
    askers.until_all_by(ENCODER)
    memories.records.switch(spec.name)
    askers.until_all_by(spec.name)
    answers = askers.end()
    for some in answers:
        for each in some:
            assert each.decision.encoder in (ENCODER, spec.name)
            expected = each.asked if each.decision.encoder == ENCODER else LABELS[each.asked]
            assert each.decision.label == expected, "the vector of one encoder was compared with those of another"
            assert each.decision.neighbours[0].similarity > 1 - 1e-3, "it is the picture itself, or its counterpart"
        by = [each.decision.encoder for each in some]
        changes = sum(one != other for one, other in pairwise(by))
        assert changes == 3, "nobody who has had an answer by the new one gets one by the old one again"

    assert client.encoders().data == [
        EncoderSummary(name=ENCODER, dimension=1280, active=False),
        EncoderSummary(name=spec.name, dimension=1280, active=True),
    ]
    with pytest.raises(EncoderMismatch, match=spec.name):
        client.classify_vectors([[1.0] * 1280], encoder=ENCODER)
    assert client.classify_vectors([[1.0] * 1280], encoder=spec.name).decisions[0].encoder == spec.name
    judged = client.classify(memories.pictures["bars"][:1], BY_JUDGEMENT).decisions[0]
    assert (judged.label, judged.encoder, judged.prediction_set) == ("disc", spec.name, ["disc"])
    replay = client.replay(str(stored.id), ReplayRequest())
    assert (replay.decision.encoder, replay.decision.label, replay.changed) == (ENCODER, "disc", False)
    client.classify(memories.pictures["disc"][:1], ClassifyOptions(k=3, store=True))
    preview = client.preview_change(
        DecisionPreviewRequest.model_validate({"action": "remove", "filter": {"labels": "disc"}})
    )
    assert preview.decisions == 2
    assert {each.before for each in preview.changed} == {"disc"}, "the other is 'bars' by the vectors of its encoder"

    [new] = stack.teach(picture("cross"), labels=["cross"])
    image = until(lambda: stack.held({"image_id": new, "state": "remembered"}).get(new), "it to be remembered")
    assert (image.state, image.encoder) == (State.REMEMBERED, spec.name)
    memories.records.begin_drop(ENCODER)
    with pytest.raises(EncoderMismatch, match=ENCODER):
        client.replay(str(stored.id), ReplayRequest())
    assert [each.name for each in client.encoders().data] == [spec.name]
