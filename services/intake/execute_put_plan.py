"""Put images into the memory: write a plan, retry what others changed meanwhile, revert what may not stay."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from visual_memory.schemas.errors import BeingRemoved, Conflict
from visual_memory.schemas.field_types import FieldType, convert_metadata
from visual_memory.schemas.image import Accepted, ImageFields, State, StoredImage, has_picture
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.picture_store import PictureStore, new_keys_of_vectors
from visual_memory.services.intake.plan_put import Plan, Rules, ToPut, planned
from visual_memory.services.intake.retention_limits import RetentionLimits, check_expiry
from visual_memory.services.intake.revert_refused_writes import RevertWrites
from visual_memory.services.memory.conditional_writes import PutResult
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE
from visual_memory.services.removal.blocklist import Blocklist
from visual_memory.services.vector_engines.engine_contract import Vectors

TRIES = 10
"""Of several concurrent changes to an image one succeeds at each try, and the others try again."""
Prepare = Callable[[Plan], Vectors | None]
"""Called before a plan is written: writes its pictures, or returns the vectors of the new images."""
Written = tuple[Plan, Mapping[str, StoredImage]]
"""A plan that was written, and the images that are stored afterwards, by image id."""


class WriteFence(Protocol):
    """Called before and after each write; an error from either aborts the request."""

    def check_before(self) -> None:
        """Return if images may be written now; if it raises, nothing is written."""

    def check_after(self) -> None:
        """Return if what was written since the last `check_before` may stay; if it raises, the write is reverted."""


class NoFence:
    """Allows every write: for callers that share their input with no other process."""

    def check_before(self) -> None:
        """Return."""

    def check_after(self) -> None:
        """Return."""


NO_FENCE = NoFence()


@dataclass(frozen=True)
class PutImages:
    """Writes planned images; shared by the use cases that accept pictures and vectors.

    Attributes:
        metadata: the declared metadata fields.
        retention: limits how long images are stored.
        check_clock: raises `Unavailable` if this machine's clock must not be used for acceptance times.
    """

    memory: Memory
    pictures: PictureStore
    blocks: Blocklist
    metadata: Mapping[str, FieldType]
    retention: RetentionLimits
    check_clock: Callable[[], object] = lambda: None

    def __call__(
        self,
        sent: Mapping[str, ToPut],
        plan: Plan,
        prepare: Prepare,
        rules: Rules,
        fence: WriteFence = NO_FENCE,
    ) -> dict[str, Accepted]:
        """Put new images and amend known ones in one write; returns the outcome of each.

        Images that others put, amended or removed meanwhile are planned and written again.

        Args:
            sent: images of one tenant, by their ids.
            plan: compares them with the stored images.
            prepare: called before each write with its plan. If the write fails, points may have been stored all the
                same, and need their pictures.
            rules: how images that are sent change those that are stored.
            fence: checked before and after each write.

        Raises:
            Forbidden: an image would expire earlier than before, and the caller may not change that.
            Blocked: a removal blocked an image meanwhile; it was deleted again.
            BeingRemoved: a removal has marked an image; none of those that were stored before was changed.
            Conflict: others changed an image at every try.
        """
        accepted: dict[str, Accepted] = {}
        done: list[Written] = []
        for _ in range(TRIES):
            refuse_marked(plan.held[image_id] for image_id in plan.states if image_id in plan.held)
            self.blocks.check(  # those that keep the subject of the stored image, which a removal may block only now
                image for image in plan.written if image.subject != sent[image.image_id].image.subject
            )
            if not rules.may_expire:
                self._refuse_earlier_expiry(plan)
            placed = self._write(plan, prepare, fence, done)
            self._revert.refuse_blocked(plan, placed.after)
            for image_id in placed.being_removed:
                raise BeingRemoved(f"image {image_id!r} is being removed at this moment: send it again")
            accepted |= {
                image_id: Accepted(image_id=image_id, state=state, other_labels=image_id in plan.other_labels)
                for image_id, state in plan.states.items()
            }
            if not placed.overtaken:
                return accepted
            again = {image_id: self._with_new_key(sent[image_id]) for image_id in placed.overtaken}
            plan = planned(again, placed.after, now(), rules)
        raise Conflict(f"image {placed.overtaken[0]!r} is being changed by others at this moment: send it again")

    def rules(self, label_rule: LabelRule, *, may_expire: bool) -> Rules:
        """How images that are sent change those that are stored."""
        return Rules(label_rule, self.retention.limited, may_expire)

    def new_image(
        self,
        tenant: str,
        fields: ImageFields,
        content_hash: str,
        picture: str,
        state: State,
        encoder: str | None = None,
    ) -> StoredImage:
        """An image as it is to be stored, after the checks that every image must pass.

        Raises:
            InvalidRequest: it would expire in the past, or a declared metadata field has another type.
            Unavailable: the clock of this machine is wrong.
        """
        self.check_clock()
        check_expiry(fields.expires_at)
        given = {name: getattr(fields, name) for name in AMENDABLE}
        image = StoredImage(
            **given | {"metadata": convert_metadata(fields.metadata, self.metadata)},
            image_id=fields.image_id or content_hash,
            tenant=tenant,
            state=state,
            accepted_at=now(),
            content_hash=content_hash,
            picture=picture,
            encoder=encoder,
        )
        return self.retention.limited(image)

    @property
    def _revert(self) -> RevertWrites:
        return RevertWrites(self.memory, self.pictures, self.blocks)

    def _write(self, plan: Plan, prepare: Prepare, fence: WriteFence, done: list[Written]) -> PutResult:
        """Write a plan if the fence allows it, and append it to `done`."""
        with self._reverting(done):
            fence.check_before()
        vectors = prepare(plan)
        with self._reverting(done, plan.new):
            fence.check_before()  # again, since writing the pictures may have taken long
        placed = self.memory.writes.put(plan.new, plan.held, plan.amended, vectors)
        self.pictures.delete(placed.unreferenced)
        done.append((plan, placed.after))
        with self._reverting(done):
            fence.check_after()
        return placed

    @contextmanager
    def _reverting(self, done: Iterable[Written], prepared: Iterable[StoredImage] = ()) -> Iterator[None]:
        """If the block raises, revert what was written, and delete the pictures of images that were only prepared."""
        try:
            yield
        except BaseException:
            for plan, after in done:
                self._revert.revert(plan, after, plan.states.keys())
            self.pictures.delete(image.picture for image in prepared)
            raise

    def _refuse_earlier_expiry(self, plan: Plan) -> None:
        replaced = ((plan.held[image.image_id], image) for image in plan.new if image.image_id in plan.held)
        for held, changed in (*plan.amended, *replaced):
            self.retention.refuse_earlier(held, changed)

    def _with_new_key(self, sent: ToPut) -> ToPut:
        """The image with a new picture key: the writer that replaced it may delete the picture of its former key."""
        image = sent.image
        if has_picture(image.picture):
            key = self.pictures.new_key(image.tenant, image.image_id, image.content_hash)
        else:
            [key] = new_keys_of_vectors(1)
        return replace(sent, image=image.model_copy(update={"picture": key}))


def refuse_marked(images: Iterable[StoredImage]) -> None:
    """Refuse to change images that a removal has marked.

    Raises:
        BeingRemoved: one of them is marked.
    """
    for image in images:
        if image.removal is not None:
            raise BeingRemoved(f"image {image.image_id!r} is being removed at this moment: send it again")
