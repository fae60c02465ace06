"""Accept pictures: decode and store them, and put points that wait for their vectors.

The order makes sure that a failure at any step leaves what was stored before unchanged: hash, compare with the stored
images, decode what is new, write the picture, put the point, and only then delete the replaced picture. A crash in
between leaves at most a picture without a point. The decoded pixels are stored with the picture for the worker, so that
each picture is decoded once, and a thumbnail for those who look at it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from visual_memory.schemas.event import EventType
from visual_memory.schemas.image import Accepted, ImageFields, State, StoredImage
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.moments import now
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.decoding.decode_many import CheckedPicture, Decoder
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.intake.execute_put_plan import NO_FENCE, PutImages, WriteFence
from visual_memory.services.intake.plan_put import Plan, ToPut, planned, sent_together

LONG = timedelta(seconds=30)
"""A request that took longer checks that its pictures are still stored."""


@dataclass(frozen=True)
class Upload:
    """A picture as it was sent.

    Attributes:
        data: the bytes of the file.
        fields: the fields that were sent with it.
    """

    data: bytes
    fields: ImageFields


@dataclass(frozen=True)
class AcceptPictures:
    """The use case.

    Attributes:
        put: writes images.
        enqueue: tells the workers that a tenant has pictures to remember; a failure is not reported.
        publish: publishes the event ``accepted``.
        count_usage: counts images and bytes for the tenant.
    """

    put: PutImages
    decoder: Decoder
    enqueue: Callable[[str], object]
    publish: Publish = publish_nothing
    count_usage: CountUsage = count_nothing

    def __call__(
        self,
        tenant: str,
        uploads: Sequence[Upload],
        label_rule: LabelRule = LabelRule.REPLACE,
        *,
        may_expire: bool = True,
        fence: WriteFence = NO_FENCE,
    ) -> list[Accepted]:
        """Accept all of the pictures or none; they are durable when this returns.

        A stored image that is sent again with the same content takes over the fields that are sent and keeps the
        others. With other content it is replaced, and keeps the fields that are not sent. If an id occurs twice, the
        second picture is handled as if it had been sent after the first.

        Args:
            tenant: the tenant of the images.
            uploads: the pictures.
            label_rule: what happens to the labels of stored images.
            may_expire: whether the caller may make a stored image expire earlier than before.
            fence: checked before and after each write; if it raises, nothing stays accepted.

        Raises:
            Forbidden: a stored image would expire earlier than before, and the caller may not change that.
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded; nothing was accepted.
            InvalidRequest: an image would expire in the past; nothing was accepted.
            Blocked: a removal blocks a content or subject; nothing was accepted.
            BeingRemoved: a removal has marked a stored image; nothing was accepted, unless it was marked just now.
        """
        hashes = [sha256(upload.data).hexdigest() for upload in uploads]
        ids = [upload.fields.image_id or content for upload, content in zip(uploads, hashes, strict=True)]
        fields = [*sent_together(zip(ids, (upload.fields for upload in uploads), strict=True), label_rule)]
        pictures = self.put.pictures
        images = [
            self.put.new_image(tenant, given, content, pictures.new_key(tenant, image_id, content), State.WAITING)
            for image_id, content, given in zip(ids, hashes, fields, strict=True)
        ]
        self.put.blocks.check(images)
        latest = {image_id: index for index, image_id in enumerate(ids)}
        sent = {image_id: ToPut.of(images[index], fields[index]) for image_id, index in latest.items()}
        rules = self.put.rules(label_rule, may_expire=may_expire)
        plan = planned(sent, self.put.memory.images.get(tenant, latest), now(), rules)
        kept = {hashes[index] for index in latest.values()}
        replaced = {index for index, image in enumerate(images) if image.content_hash not in kept}
        decoded, written = replaced | {latest[image.image_id] for image in plan.new}, dict[str, bytes]()
        thumbnails = dict[int, bytes]()

        def prepare(plan: Plan) -> None:
            more = {latest[image.image_id] for image in plan.new} - decoded
            decoded.update(more)
            thumbnails.update(self._decode(images, uploads, more))
            new = {image.picture: latest[image.image_id] for image in plan.new}
            files = {key: uploads[index].data for key, index in new.items()}
            self._write(files, {key: thumbnails[index] for key, index in new.items() if index in thumbnails})
            written.update(files)

        begun = now()
        try:
            thumbnails.update(self._decode(images, uploads, decoded))
            with prometheus_metrics.stage("accept"):
                accepted = self.put(sent, plan, prepare, rules, fence)
                self._rewrite_lost(tenant, [*latest], written, begun)
        finally:
            pictures.drop_pixels(images[index].picture for index in decoded if images[index].picture not in written)
        if any(each.state is State.WAITING for each in accepted.values()):
            self.enqueue(tenant)
        prometheus_metrics.ACCEPTED.inc(len(uploads))
        size = sum(len(upload.data) for upload in uploads)
        self.count_usage(tenant, {Measure.IMAGES_ACCEPTED: len(uploads), Measure.PICTURE_BYTES_ACCEPTED: size})
        self.publish(tenant, EventType.ACCEPTED, [*latest])
        return [accepted[image_id] for image_id in ids]

    def _decode(
        self, images: Sequence[StoredImage], uploads: Sequence[Upload], indices: Iterable[int]
    ) -> dict[int, bytes]:
        """Decode some of the pictures, each content once: at its first index, which an error names.

        Returns:
            their thumbnails.
        """
        first: dict[str, int] = {}
        for index, image in enumerate(images):
            first.setdefault(image.content_hash, index)
        wanted: dict[int, list[int]] = {}
        for index in indices:
            wanted.setdefault(first[images[index].content_hash], []).append(index)
        thumbnails: dict[int, bytes] = {}

        def keep(index: int, checked: CheckedPicture) -> None:
            for each in wanted[index]:
                if checked.thumbnail:
                    thumbnails[each] = checked.thumbnail
                if checked.pixels is not None:
                    self.put.pictures.store_pixels(images[each].picture, checked.pixels)

        if wanted:
            with prometheus_metrics.stage("decode"):
                self.decoder.check(images[0].tenant, [upload.data for upload in uploads], keep, sorted(wanted))
        return thumbnails

    def _write(self, pictures: Mapping[str, bytes], thumbnails: Mapping[str, bytes]) -> None:
        try:
            if pictures:
                self.put.pictures.write_many(pictures, thumbnails)
        except BaseException:
            self.put.pictures.delete(pictures)
            raise

    def _rewrite_lost(self, tenant: str, ids: Collection[str], written: Mapping[str, bytes], begun: datetime) -> None:
        """Write pictures again whose files were deleted although their points are stored.

        A file without a point is deleted after a while (see `services.removal.erasure.remove_orphan_files`), and this
        process may have been suspended before it put the points. An object store is checked only if that took long.
        """
        pictures, memory = self.put.pictures, self.put.memory
        if not written or not (pictures.is_local or abs(now() - begun) > LONG):
            return
        lost = written.keys() - pictures.existing(written.keys())
        if lost:
            held = {image.picture for image in memory.images.get(tenant, ids).values()}
            self._write({key: written[key] for key in lost & held}, {})
            held = {image.picture for image in memory.images.get(tenant, ids).values()}
            pictures.delete(lost - held)  # a removal has deleted the point meanwhile
