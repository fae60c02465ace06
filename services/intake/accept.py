"""Accept: from bytes and fields to a durable point that waits for its vector.

In this order, so that a failure at any step changes nothing that was there before: decode, picture, point, and only
then the old picture goes. A crash in between leaves at most a picture without a point, which nobody was promised.
What a picture was decoded to is kept beside it for the worker, so that nothing is decoded twice on the way in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256

from schemas.errors import Conflict, NotFound
from schemas.filter import FieldType, typed_metadata
from schemas.image import Accepted, ImageFields, ImagePatch, State, StoredImage, now
from services.forgetting.blocks import Blocks
from services.forgetting.retention import Retention, check_expiry
from services.memory.memory import Memory, Placed
from services.memory.pictures import Pictures
from services.perception.decoder import Decoder
from services.runtime import metrics

FIELDS = {"labels", "source", "subject", "captured_at", "expires_at", "metadata"}
RETRIES = 3
Put = Callable[[Sequence[StoredImage], Mapping[str, StoredImage]], Placed]
"""Puts images, given also what is there of them, by their ids."""


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent: its bytes and what the caller says of it."""

    data: bytes
    fields: ImageFields


@dataclass(frozen=True)
class Accept:
    """The use case, with the parts that it needs.

    Attributes:
        enqueue: tells the workers; may fail quietly.
        metadata: the declared metadata fields.
        retention: the longest life of what is accepted.
        pool: for what can be done for several pictures at once.
    """

    memory: Memory
    pictures: Pictures
    blocks: Blocks
    decoder: Decoder
    enqueue: Callable[[str, Sequence[str]], bool]
    metadata: Mapping[str, FieldType]
    retention: Retention
    pool: Executor

    def __call__(self, tenant: str, uploads: Sequence[Upload]) -> list[Accepted]:
        """Accept pictures, all or none; durable when it returns.

        The same image id with the same content takes over labels and fields and keeps all else; with other content it
        is replaced. Where an id comes twice, it is as if the second had been sent after the first.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded; nothing was accepted.
            InvalidRequest: one was to expire in the past; nothing was accepted.
            Blocked: a removal refuses a content or subject; nothing was accepted.
        """
        images = [self._image(tenant, upload) for upload in uploads]
        self.blocks.check(images)
        sent = {image.image_id: (image, upload.data) for image, upload in zip(images, uploads, strict=True)}
        latest = {image_id: image for image_id, (image, _) in sent.items()}
        unclaimed = {image.picture for image in images}

        def put(fresh: Sequence[StoredImage], _held: Mapping[str, StoredImage]) -> Placed:
            placed = self._put([sent[image.image_id] for image in fresh])
            unclaimed.difference_update(image.picture for image in fresh)
            return placed

        try:
            self._decode(images, uploads)
            with metrics.stage("accept"):
                states = self.keep(latest, put)
        finally:
            self.pictures.drop_pixels(unclaimed)
        self.refuse_blocked_meanwhile(latest.values())
        self.enqueue(tenant, [image_id for image_id, state in states.items() if state is State.WAITING])
        metrics.ACCEPTED.labels(tenant).inc(len(uploads))
        return [Accepted(image_id=image.image_id, state=states[image.image_id]) for image in images]

    def amend(self, tenant: str, image_id: str, patch: ImagePatch) -> StoredImage:
        """Change an image's labels and fields; what the patch leaves out stays.

        Raises:
            NotFound: there is no such image.
            InvalidRequest: it was to expire in the past.
            Blocked: a removal refuses the subject that it would have.
            Conflict: its picture was replaced at every try.
        """
        check_expiry(patch.expires_at)
        changes = patch.model_dump(exclude_unset=True)
        if "metadata" in changes:
            changes["metadata"] = typed_metadata(patch.metadata, self.metadata)
        for _ in range(RETRIES):
            held = self.memory.get(tenant, [image_id]).get(image_id)
            if held is None:
                raise NotFound(f"there is no image {image_id!r}")
            changed = self.retention.limited(held.changed(changes, now()))
            self.blocks.check([changed])
            if self._amend(held, changed):
                return changed
        raise Conflict(f"image {image_id!r} is being replaced at this moment: send the change again")

    def _image(self, tenant: str, upload: Upload) -> StoredImage:
        content_hash = sha256(upload.data).hexdigest()
        picture = self.pictures.new_key(tenant, upload.fields.image_id or content_hash, content_hash)
        return self.image(tenant, upload.fields, content_hash, picture, State.WAITING)

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
        """
        check_expiry(fields.expires_at)
        image = StoredImage(
            **fields.model_dump(exclude={"image_id", "metadata"}),
            metadata=typed_metadata(fields.metadata, self.metadata),
            image_id=fields.image_id or content_hash,
            tenant=tenant,
            state=state,
            accepted_at=now(),
            content_hash=content_hash,
            picture=picture,
            encoder=encoder,
        )
        return self.retention.limited(image)

    def _decode(self, images: Sequence[StoredImage], uploads: Sequence[Upload]) -> None:
        def keep(place: int, pixels: bytes) -> None:
            self.pictures.keep_pixels(images[place].picture, pixels)

        with metrics.stage("decode"):
            self.decoder.check(images[0].tenant, [upload.data for upload in uploads], keep)

    def keep(self, sent: Mapping[str, StoredImage], put: Put) -> dict[str, State]:
        """Amend what is already there, put the rest; returns the state of each.

        Args:
            sent: images of one tenant, by their ids.
            put: puts those that are not there with this content.

        Raises:
            Conflict: one is being removed at this moment.
        """
        tenant = next(iter(sent.values())).tenant
        held = self.memory.get(tenant, list(sent))
        same = [
            image_id
            for image_id, there in held.items()
            if there.content_hash == sent[image_id].content_hash and there.state is not State.REJECTED
        ]
        amended = self.pool.map(lambda image_id: self._take_over(held[image_id], sent[image_id]), same)
        states = {image_id: held[image_id].state for image_id, done in zip(same, amended, strict=True) if done}
        if fresh := [image for image_id, image in sent.items() if image_id not in states]:
            placed = put(fresh, held)
            self.pictures.delete(placed.unreferenced)
            if placed.gone:
                raise Conflict(f"image {placed.gone[0]!r} is being removed at this moment: send it again")
        return states | {image.image_id: image.state for image in fresh}

    def _take_over(self, held: StoredImage, sent: StoredImage) -> bool:
        changed = held.changed({name: getattr(sent, name) for name in FIELDS}, now())
        return changed == held or self._amend(held, changed)

    def _amend(self, held: StoredImage, changed: StoredImage) -> bool:
        """Write the change; take it back where a removal blocked its subject between the check and the write."""
        written = self.memory.amend(held, changed)
        if written and self.blocks.blocks(changed):
            self.memory.amend(changed, held)
            self.blocks.check([changed])
        return written

    def _put(self, fresh: Sequence[tuple[StoredImage, bytes]]) -> Placed:
        """Pictures first, then their points."""
        images = [image for image, _ in fresh]
        try:
            self.pictures.write_some({image.picture: data for image, data in fresh})
        except BaseException:
            self.pictures.delete([image.picture for image in images])
            raise
        return self.memory.put(images)  # should it fail, points may be there all the same, and need their pictures

    def refuse_blocked_meanwhile(self, images: Iterable[StoredImage]) -> None:
        """Undo what a removal blocked between the check and the point.

        Raises:
            Blocked: it blocked one.
        """
        blocked = self.blocks.among(images)
        if blocked:
            self.memory.delete(blocked)
            self.pictures.delete([image.picture for image in blocked])
            self.blocks.check(blocked)
