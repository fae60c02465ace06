"""The whole as a state machine: what it holds and answers is held against a model in plain Python.

The engine is a real owner process that is killed now and then; pictures and records are real files; a restore goes to
another folder with another owner.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.memory_images import Owner, quick_folder
from tests.support.shape_pictures import picture
from tests.support.wired_service import METADATA, TESTER, Parts, Pixels, back_up, encoder_spec, receipts_in, restore
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Vote
from visual_memory.schemas.encoder import FillCounts
from visual_memory.schemas.errors import Blocked, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, ImagePatch, State
from visual_memory.schemas.labels import label_paths
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.data_governance.remove_expired_images import RemoveExpiredImages
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.unit_vectors import to_units
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

TENANT = "default"
HOUR = timedelta(hours=1)
OTHER, OTHER_DIMENSION = "other", 7
IDS = tuple(f"image-{n}" for n in range(8))
SUBJECTS = ("ann", "bob", "eve")
LABELS = ("cat", "dog", "animal/owl", "animal/cat")
PICTURES = tuple(picture(kind) for kind in ("disc", "bars", "checks", "cross") for _ in range(2))


@dataclass(frozen=True)
class Held:
    """What the model knows of an image; `serial` is another for each content that was accepted under its id."""

    serial: int
    content: int
    label: str
    subject: str
    remembered: bool
    accepted_at: datetime
    expired: bool = False


@dataclass(frozen=True)
class Kept:
    """A backup: what the model held, and when."""

    images: dict[str, Held]
    moment: datetime
    number: int
    filled: frozenset[int] | None


Condition = dict[str, Any]
conditions = st.one_of(
    st.fixed_dictionaries({"subject": st.sampled_from(SUBJECTS)}),
    st.fixed_dictionaries({"labels": st.sampled_from(("cat", "dog", "animal"))}),
    st.fixed_dictionaries({"image_id": st.lists(st.sampled_from(IDS), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"subject": st.sampled_from(SUBJECTS), "labels": st.sampled_from(LABELS)}),
    st.fixed_dictionaries({"subject": st.fixed_dictionaries({"not": st.sampled_from(SUBJECTS)})}),
)


def meets(condition: Condition, image_id: str, held: Held) -> bool:
    """The filter's meaning, written down once more; by expiry nobody but retention removes, and all that is over."""
    if "expires_at" in condition:
        return held.expired
    subject, label, wanted = condition.get("subject"), condition.get("labels"), condition.get("image_id")
    if isinstance(subject, dict) and held.subject == subject["not"]:
        return False
    if isinstance(subject, str) and held.subject != subject:
        return False
    if label is not None and label not in label_paths([held.label]):
        return False
    return wanted is None or image_id in wanted


class Machine(RuleBasedStateMachine):
    """Accept, send again, relabel, remember, ask, remove, expire, crash, compact, back up, restore.

    Another encoder is added, filled and dropped meanwhile; `filled` has the serials that it has encoded.
    """

    @initialize()
    def begin(self) -> None:
        """An empty service."""
        self.stack = ExitStack()
        self.pool = self.stack.enter_context(ThreadPoolExecutor(2))
        self.images: dict[str, Held] = {}
        self.subjects: set[str] = set()
        self.contents: set[int] = set()
        self.removed: list[tuple[datetime, set[str]]] = []
        self.serials, self.gone = 0, set[int]()
        self.backup: Kept | None = None
        self.filled: set[int] | None = None
        self.mirror = self.stack.enter_context(quick_folder())
        self.settle()
        self.parts.memory.open()
        EncoderRecords(self.parts.database).create_first(encoder_spec(Pixels().name, Pixels().dimension))

    def settle(self) -> None:
        """A new place with an engine of its own."""
        self.folder = self.stack.enter_context(quick_folder())
        self.owner = self.stack.enter_context(Owner(self.folder)).ready()
        self.engine = EngineOwnerClient(self.owner.socket, timeout=60)
        self.parts = Parts(self.folder, self.opened(), self.pool, Pixels(), TENANT)
        self.parts.receipts = receipts_in(self.parts.database, self.mirror)

    def opened(self) -> Memory:
        """The memory, as another process has it."""
        return Memory(self.engine, Pixels().name, Pixels().dimension, METADATA)

    @rule(
        image_id=st.sampled_from(IDS),
        content=st.integers(0, len(PICTURES) - 1),
        label=st.sampled_from(LABELS),
        subject=st.sampled_from(SUBJECTS),
    )
    def accept(self, image_id: str, content: int, label: str, subject: str) -> None:
        """Send a picture: new, once more, or another under the same id."""
        sent = Upload(PICTURES[content], ImageFields(labels=[label], image_id=image_id, subject=subject))
        if subject in self.subjects or content in self.contents:
            with pytest.raises(Blocked):
                self.parts.accept()(TENANT, [sent])
            return
        self.parts.accept()(TENANT, [sent])
        held = self.images.get(image_id)
        if held is not None and held.content == content:
            self.images[image_id] = replace(held, label=label, subject=subject, expired=False)
        else:
            self.serials += 1
            self.images[image_id] = Held(self.serials, content, label, subject, remembered=False, accepted_at=now())

    @rule()
    def remember(self) -> None:
        """A worker gets a message, whether images wait or not; it is put back while more do."""
        self.parts.work()
        self.images = {image_id: replace(image, remembered=True) for image_id, image in self.images.items()}

    @rule(image_id=st.sampled_from(IDS), label=st.sampled_from(LABELS), subject=st.sampled_from(SUBJECTS))
    def relabel(self, image_id: str, label: str, subject: str) -> None:
        """Change an image."""
        patch = ImagePatch(labels=[label], subject=subject)
        if image_id not in self.images:
            with pytest.raises(NotFound):
                self.parts.amend_image()(TENANT, image_id, patch)
        elif subject in self.subjects:
            with pytest.raises(Blocked):
                self.parts.amend_image()(TENANT, image_id, patch)
        else:
            self.parts.amend_image()(TENANT, image_id, patch)
            self.images[image_id] = replace(self.images[image_id], label=label, subject=subject)

    @rule(condition=conditions, block=st.integers(0, 9))
    def remove(self, condition: Condition, block: int) -> None:
        """Remove what meets a filter, one in ten with a block."""
        request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to", block=block == 0)
        forget = self.parts.forget()
        recorded = forget.request(TENANT, request, TESTER)
        covered = {image_id for image_id, held in self.images.items() if meets(condition, image_id, held)}
        assert forget.resume(TENANT, recorded.id).images == len(covered)
        self.forgotten(covered, recorded.requested_at)
        if block == 0:
            self.contents |= {self.images[image_id].content for image_id in covered}
            named = condition.get("subject")
            self.subjects |= {named} if isinstance(named, str) else set()
        self.images = {image_id: held for image_id, held in self.images.items() if image_id not in covered}

    def forgotten(self, covered: set[str], requested_at: datetime) -> None:
        """Note what a removal covered."""
        self.removed.append((requested_at, covered))
        self.gone |= {self.images[image_id].serial for image_id in covered}

    @rule(image_ids=st.lists(st.sampled_from(IDS), max_size=3))
    def let_expire(self, image_ids: list[str]) -> None:
        """The time of images is over since a while."""
        for image in self.parts.memory.images.get(TENANT, image_ids).values():
            over = image.model_copy(update={"expires_at": now() - 2 * HOUR})
            assert self.parts.memory.writes.amend(image, over)
            self.images[image.image_id] = replace(self.images[image.image_id], expired=True)

    @rule()
    def expire(self) -> None:
        """Remove what has expired."""
        expire = RemoveExpiredImages(self.parts.memory, self.parts.removals, self.parts.forget())
        covered = {image_id for image_id, held in self.images.items() if held.expired}
        assert expire.if_due() == len(covered)
        if covered:
            latest, *_ = self.parts.removals.latest(TENANT).data
            self.forgotten(covered, latest.requested_at)
        self.images = {image_id: held for image_id, held in self.images.items() if not held.expired}

    @rule(content=st.integers(0, len(PICTURES) - 1), vote=st.sampled_from(Vote))
    def ask(self, content: int, vote: Vote) -> None:
        """Classify a picture: everybody who is remembered votes unless expired, with the right similarity and label."""
        options = ClassifyOptions(k=100, vote=vote, effort=Effort.EXACT)
        classify = replace(self.parts, memory=self.opened()).classify()  # in a process that has not asked yet
        [decision] = classify.decide(TENANT, classify.embed(TENANT, [PICTURES[content]]), options).decisions
        query, *rows = self.vectors(content, *(held.content for held in self.images.values()))
        expected = {
            image_id: (float(row @ query), [held.label])
            for (image_id, held), row in zip(self.images.items(), rows, strict=True)
            if held.remembered and not held.expired
        }
        answered = {each.image_id: (each.similarity, each.labels) for each in decision.neighbours}
        assert answered.keys() == expected.keys()
        for image_id, (similarity, labels) in expected.items():
            assert answered[image_id][0] == pytest.approx(similarity, abs=1e-5)
            assert answered[image_id][1] == labels

    def vectors(self, *contents: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """The encoder's vectors of pictures."""
        decoded = [self.parts.decoder.decode_one(TENANT, PICTURES[content]) for content in contents]
        return list(Pixels().encode(decoded))

    @rule()
    def add_encoder(self) -> None:
        """Another encoder is added, or is there already."""
        EncoderRecords(self.parts.database).add(encoder_spec(OTHER, OTHER_DIMENSION))
        self.engine.add_vector(OTHER, OTHER_DIMENSION)
        self.filled = self.filled or set()

    @rule(limit=st.integers(1, 4), late=st.booleans())
    def fill(self, limit: int, late: bool) -> None:
        """Some images get its vectors; late: after it was dropped, as by a worker that does not know of it yet."""
        if self.filled is None:
            return
        other = self.parts.memory.with_encoder(OTHER, OTHER_DIMENSION)
        images, _ = other.missing_vectors.page(TENANT, limit)
        if late:
            self.drop_encoder()
        if images:
            other.missing_vectors.store(
                images, self.by_other([self.images[image.image_id].content for image in images])
            )
        if self.filled is not None:
            self.filled |= {self.images[image.image_id].serial for image in images}

    @rule()
    def drop_encoder(self) -> None:
        """The other encoder is dropped, if it is there."""
        self.engine.drop_vector(OTHER)
        EncoderRecords(self.parts.database).delete(OTHER)
        self.filled = None

    def by_other(self, contents: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The other encoder's vectors of pictures."""
        return to_units(np.array(self.vectors(*contents), np.float32)[:, :OTHER_DIMENSION])

    @invariant()
    def the_other_encoder_has_what_the_model_holds(self) -> None:
        """Its vectors are those of the pictures that are there, of all that were filled, and of no others."""
        if not hasattr(self, "parts"):
            return
        points, _ = self.parts.memory.points.engine.export(EVERY_POINT, 1000, None)
        held = {point.payload["image_id"]: point.vectors[OTHER] for point in points if OTHER in point.vectors}
        filled = self.filled or set()
        contents = {image_id: image.content for image_id, image in self.images.items() if image.serial in filled}
        assert held.keys() == contents.keys()
        if contents:
            expected = self.by_other([contents[image_id] for image_id in held])
            assert np.allclose(np.array([*held.values()]), expected, atol=1e-6)
        if self.filled is not None:
            counts = self.parts.memory.with_encoder(OTHER, OTHER_DIMENSION).missing_vectors.counts()
            left = sum(image.remembered for image in self.images.values()) - len(contents)
            assert counts == FillCounts(filled=len(contents), left=left)

    @rule()
    def crash(self) -> None:
        """The engine's process is killed, and started again."""
        self.owner.kill()
        self.owner.ready()

    @rule()
    def compact(self) -> None:
        """Erase what was removed."""
        assert self.parts.memory.compact().erased

    @rule()
    def back_up(self) -> None:
        """Write everything into a file."""
        number = 0 if self.backup is None else self.backup.number + 1
        moment = now()
        back_up(self.parts, self.folder / f"backup-{number}")
        filled = None if self.filled is None else frozenset(self.filled)
        self.backup = Kept(dict(self.images), moment, number, filled)

    @rule()
    def restore(self) -> None:
        """Go back to the backup in another place, where the mirror tells what was removed since."""
        if self.backup is None:
            return
        file = self.folder / f"backup-{self.backup.number}"
        self.settle()
        restore(self.parts, file)
        shutil.copy(file, self.folder / file.name)
        self.filled = None if self.backup.filled is None else {*self.backup.filled}
        self.images = {
            image_id: held
            for image_id, held in self.backup.images.items()
            if held.serial not in self.gone
            and not any(image_id in covered and held.accepted_at <= moment for moment, covered in self.removed)
            and held.subject not in self.subjects
            and held.content not in self.contents
        }

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Every image with its fields and its picture, and nothing else."""
        if not hasattr(self, "parts"):
            return
        page, _ = self.parts.memory.images.page(TENANT, [], 1000)
        assert {image.image_id: (image.labels, image.subject, image.state is State.REMEMBERED) for image in page} == {
            image_id: ([held.label], held.subject, held.remembered) for image_id, held in self.images.items()
        }
        assert [self.parts.pictures.read(image.picture) for image in page] == [
            PICTURES[self.images[image.image_id].content] for image in page
        ]
        assert len(self.parts.files()) == len(page)
        assert len(self.parts.pixels()) <= sum(not held.remembered for held in self.images.values())

    def teardown(self) -> None:
        """Every receipt is sound, and nothing came back; then everything is stopped."""
        if not hasattr(self, "parts"):
            return
        try:
            found = self.parts.verify()()
            assert found.faults == []
        finally:
            self.engine.close()
            self.stack.close()
