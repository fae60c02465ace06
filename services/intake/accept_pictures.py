"""Accept: from bytes and fields to a durable point that waits for its vector.

In this order, so that a failure at any step changes nothing that was there before: hash, look what is there, decode
what is new, picture, point, and only then the old picture goes. A crash in between leaves at most a picture without a
point, which nobody was promised. What a picture was decoded to is kept beside it for the worker, so that nothing is
decoded twice on the way in.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from visual_memory.schemas.errors import BeingRemoved, Conflict, NotFound
from visual_memory.schemas.field_types import FieldType, typed_metadata
from visual_memory.schemas.image import Accepted, ImageFields, ImagePatch, State, StoredImage, now
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.data_governance.retention_limits import RetentionLimits, check_expiry
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.storage.picture_store import Pictures, new_keys_of_vectors
from visual_memory.services.intake.idempotent_put import Plan, Rules, ToPut, planned, sent_together
from visual_memory.services.intake.revert_writes import TakeBack
from visual_memory.services.intake.write_fence import NO_GUARD, WriteGuard
from visual_memory.services.memory.memory import Memory, Placed
from visual_memory.services.memory.points.point_payload import AMENDABLE, has_picture
from visual_memory.services.removal.blocklist import Blocklist
from visual_memory.services.vector_engines.engine_contract import Vectors

TRIES = 10
LONG = timedelta(seconds=30)
"""Who accepts for longer looks whether its pictures are there still."""
"""Of several who change the same image at once one succeeds at each try, and the others look again."""
Prepare = Callable[[Plan], Vectors | None]
"""Prepares what is about to be done: writes pictures; or gives vectors to what is there, and picks those of the new."""
Done = tuple[Plan, Mapping[str, StoredImage]]
"""What was done, and what was there afterwards, by image id."""


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent: its bytes and what the caller says of it."""

    data: bytes
    fields: ImageFields


@dataclass(frozen=True)
class Accept:
    """The use case, with the parts that it needs.

    Attributes:
        enqueue: tells the workers that a tenant has work; may fail quietly.
        metadata: the declared metadata fields.
        retention: the longest life of what is accepted.
        check_clock: returns if this process's clock may be written down; raises `Unavailable` where it is wrong.
    """

    memory: Memory
    pictures: Pictures
    blocks: Blocklist
    decoder: Decoder
    enqueue: Callable[[str], object]
    metadata: Mapping[str, FieldType]
    retention: RetentionLimits
    check_clock: Callable[[], object] = lambda: None

    def __call__(
        self,
        tenant: str,
        uploads: Sequence[Upload],
        labels: LabelRule = LabelRule.REPLACE,
        *,
        may_expire: bool = True,
        guard: WriteGuard = NO_GUARD,
    ) -> list[Accepted]:
        """Accept pictures, all or none; durable when it returns.

        The same image id with the same content takes over what is said of it and keeps all else; with other content it
        is replaced, and keeps the fields that are not said. Where an id comes twice, it is as if the second had been
        sent after the first.

        Args:
            tenant: whose they are.
            uploads: what was sent.
            labels: what becomes of the labels of those that are there.
            may_expire: whether the caller may let what is there expire earlier than before.
            guard: asked around each write; what it raises is raised, and then nothing stays accepted.

        Raises:
            Forbidden: it would, and the caller may not.
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded; nothing was accepted.
            InvalidRequest: one was to expire in the past; nothing was accepted.
            Blocked: a removal refuses a content or subject; nothing was accepted.
            BeingRemoved: a removal has marked one that is there; nothing was accepted, unless it did so just now.
        """
        hashes = [sha256(upload.data).hexdigest() for upload in uploads]
        ids = [upload.fields.image_id or content for upload, content in zip(uploads, hashes, strict=True)]
        fields = [*sent_together(zip(ids, (upload.fields for upload in uploads), strict=True), labels)]
        images = [
            self.image(tenant, said, content, self.pictures.new_key(tenant, image_id, content), State.WAITING)
            for image_id, content, said in zip(ids, hashes, fields, strict=True)
        ]
        self.blocks.check(images)
        latest = {image_id: place for place, image_id in enumerate(ids)}
        sent = {image_id: ToPut.of(images[place], fields[place]) for image_id, place in latest.items()}
        rules = self.rules(labels, may_expire=may_expire)
        plan = planned(sent, self.memory.get(tenant, latest), now(), rules)
        kept = {hashes[place] for place in latest.values()}
        replaced = {place for place, image in enumerate(images) if image.content_hash not in kept}
        decoded, written = replaced | {latest[image.image_id] for image in plan.new}, dict[str, bytes]()

        def prepare(plan: Plan) -> None:
            chosen = [latest[image.image_id] for image in plan.new]
            more = {*chosen} - decoded
            decoded.update(more)
            self._decode(images, uploads, more)
            files = {image.picture: uploads[latest[image.image_id]].data for image in plan.new}
            self._write(files)
            written.update(files)

        begun = now()
        try:
            self._decode(images, uploads, decoded)
            with prometheus_metrics.stage("accept"):
                accepted = self.keep(sent, plan, prepare, rules, guard)
                self._write_again(tenant, [*latest], written, begun)
        finally:
            self.pictures.drop_pixels(
                images[place].picture for place in decoded if images[place].picture not in written
            )
        if any(each.state is State.WAITING for each in accepted.values()):
            self.enqueue(tenant)
        prometheus_metrics.ACCEPTED.labels(tenant).inc(len(uploads))
        return [accepted[image_id] for image_id in ids]

    def rules(self, labels: LabelRule, *, may_expire: bool) -> Rules:
        """How what is sent changes what is there."""
        return Rules(labels, self.retention.limited, may_expire)

    def amend(
        self,
        tenant: str,
        image_id: str,
        patch: ImagePatch,
        etags: Collection[str] | None = None,
        *,
        may_expire: bool = True,
    ) -> StoredImage:
        """Change an image's labels and fields; what the patch leaves out stays, whoever else changes it meanwhile.

        Args:
            tenant: whose it is.
            image_id: its id.
            patch: what changes.
            etags: of which it must have one; None: any will do.
            may_expire: as for `__call__`.

        Raises:
            Forbidden: it would expire earlier than before, and the caller may not let it.
            NotFound: there is no such image.
            InvalidRequest: it was to expire in the past.
            Blocked: a removal refuses the subject that it would have.
            BeingRemoved: a removal has marked it.
            PreconditionFailed: it has none of the ETags.
            Conflict: it was changed by others at every try.
        """
        check_expiry(patch.expires_at)
        changes = patch.model_dump(exclude_unset=True)
        if "metadata" in changes:
            changes["metadata"] = typed_metadata(patch.metadata, self.metadata)
        for _ in range(TRIES):
            held = self.memory.get(tenant, [image_id]).get(image_id)
            if held is None:
                raise NotFound(f"there is no image {image_id!r}")
            _refuse_marked([held])
            held.check_etag(etags)
            changed = self.retention.limited(held.changed(changes, now()))
            if not may_expire:
                self.retention.refuse_earlier(held, changed)
            self.blocks.check([changed])
            if amended := self.memory.amend(held, changed):
                self._take_back.refuse_blocked(Plan((), ((held, changed),)), {image_id: amended})
                return amended
        raise Conflict(f"image {image_id!r} is being changed by others at this moment: send the change again")

    @property
    def _take_back(self) -> TakeBack:
        return TakeBack(self.memory, self.pictures, self.blocks)

    def image(
        self,
        tenant: str,
        fields: ImageFields,
        content_hash: str,
        picture: str,
        state: State,
        encoder: str | None = None,
    ) -> StoredImage:
        """The image that is to be kept, by the rules of the service.

        Raises:
            InvalidRequest: it was to expire in the past, or a declared metadata field is of another type.
            Unavailable: the clock of this machine is wrong.
        """
        self.check_clock()
        check_expiry(fields.expires_at)
        said = {name: getattr(fields, name) for name in AMENDABLE}
        image = StoredImage(
            **said | {"metadata": typed_metadata(fields.metadata, self.metadata)},
            image_id=fields.image_id or content_hash,
            tenant=tenant,
            state=state,
            accepted_at=now(),
            content_hash=content_hash,
            picture=picture,
            encoder=encoder,
        )
        return self.retention.limited(image)

    def _decode(self, images: Sequence[StoredImage], uploads: Sequence[Upload], places: Iterable[int]) -> None:
        """Decode the pictures at some places, each content once: at its first place, which an error names."""
        first: dict[str, int] = {}
        for place, image in enumerate(images):
            first.setdefault(image.content_hash, place)
        wanted: dict[int, list[int]] = {}
        for place in places:
            wanted.setdefault(first[images[place].content_hash], []).append(place)

        def keep(place: int, pixels: bytes) -> None:
            for each in wanted[place]:
                self.pictures.keep_pixels(images[each].picture, pixels)

        if wanted:
            with prometheus_metrics.stage("decode"):
                self.decoder.check(images[0].tenant, [upload.data for upload in uploads], keep, sorted(wanted))

    def _write(self, pictures: Mapping[str, bytes]) -> None:
        try:
            if pictures:
                self.pictures.write_some(pictures)
        except BaseException:
            self.pictures.delete(pictures)
            raise

    def _write_again(self, tenant: str, ids: Collection[str], written: Mapping[str, bytes], begun: datetime) -> None:
        """Write pictures whose files are gone although their points are there.

        A file without a point is deleted after a while (see `services.removal.erasure.remove_orphan_files`), and this
        process may have been suspended before it put the points. The store is asked only where that took long.
        """
        if not written or not (self.pictures.is_local or abs(now() - begun) > LONG):
            return
        lost = written.keys() - self.pictures.existing(written.keys())
        if lost:
            held = {image.picture for image in self.memory.get(tenant, ids).values()}
            self._write({key: written[key] for key in lost & held})
            held = {image.picture for image in self.memory.get(tenant, ids).values()}
            self.pictures.delete(lost - held)  # a removal took the point meanwhile

    def keep(
        self,
        sent: Mapping[str, ToPut],
        plan: Plan,
        prepare: Prepare,
        rules: Rules,
        guard: WriteGuard = NO_GUARD,
    ) -> dict[str, Accepted]:
        """Put what is new and amend the rest, in one write; returns what became of each.

        What others put, amended or removed meanwhile is looked at once more.

        Args:
            sent: images of one tenant, by their ids.
            plan: what they are to what is there.
            prepare: called with what is about to be done, before. Should the write fail, points may be there all the
                same, and need their pictures.
            rules: how what is sent changes what is there.
            guard: asked before each write and after it.

        Raises:
            Forbidden: one would expire earlier than before, and the caller may not let it.
            Blocked: a removal refused one meanwhile; it is not there.
            BeingRemoved: a removal has marked one: of those that were there already nothing was written.
            Conflict: one is changed by others again and again.
        """
        accepted: dict[str, Accepted] = {}
        done: list[Done] = []
        for _ in range(TRIES):
            _refuse_marked(plan.held[image_id] for image_id in plan.states if image_id in plan.held)
            self.blocks.check(  # those that keep the subject of what is there, else it would be gone before it is noted
                image for image in plan.written if image.subject != sent[image.image_id].image.subject
            )
            if not rules.may_expire:
                self._refuse_earlier(plan)
            placed = self._put(plan, prepare, guard, done)
            self._take_back.refuse_blocked(plan, placed.after)
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

    def _put(self, plan: Plan, prepare: Prepare, guard: WriteGuard, done: list[Done]) -> Placed:
        """Write what is to be done, if the guard allows it.

        Args:
            plan: what is to be done.
            prepare: as for `keep`.
            guard: as for `keep`.
            done: what was done so far; grows by this.
        """
        with self._undoing(done):
            guard.check_before()
        vectors = prepare(plan)
        with self._undoing(done, plan.new):
            guard.check_before()  # to write the pictures may have taken long
        placed = self.memory.put(plan.new, plan.held, plan.amended, vectors)
        self.pictures.delete(placed.unreferenced)
        done.append((plan, placed.after))
        with self._undoing(done):
            guard.check_after()
        return placed

    @contextmanager
    def _undoing(self, done: Iterable[Done], written: Iterable[StoredImage] = ()) -> Iterator[None]:
        """Take back what was done, and the pictures of what was to follow, where the block raises."""
        try:
            yield
        except BaseException:
            for plan, after in done:
                self._take_back.take_back(plan, after, plan.states.keys())
            self.pictures.delete(image.picture for image in written)
            raise

    def _refuse_earlier(self, plan: Plan) -> None:
        replaced = ((plan.held[image.image_id], image) for image in plan.new if image.image_id in plan.held)
        for held, changed in (*plan.amended, *replaced):
            self.retention.refuse_earlier(held, changed)

    def _with_new_key(self, sent: ToPut) -> ToPut:
        """The image to be put once more: who replaced it deletes the picture of its former key, maybe only later."""
        image = sent.image
        if has_picture(image.picture):
            key = self.pictures.new_key(image.tenant, image.image_id, image.content_hash)
        else:
            [key] = new_keys_of_vectors(1)
        return replace(sent, image=image.model_copy(update={"picture": key}))


def _refuse_marked(images: Iterable[StoredImage]) -> None:
    """Refuse to change what a removal has marked.

    Raises:
        BeingRemoved: one is.
    """
    for image in images:
        if image.removal is not None:
            raise BeingRemoved(f"image {image.image_id!r} is being removed at this moment: send it again")
