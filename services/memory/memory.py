"""The memory of images: what use cases do with points, each for one tenant."""

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime, timedelta
from itertools import repeat
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from visual_memory.schemas.classify_options import MAX_TIMES_K, Effort, GroupBy
from visual_memory.schemas.errors import InvalidVector
from visual_memory.schemas.field_types import FIELDS, FieldType, Value, typed
from visual_memory.schemas.filter import Clause, matches
from visual_memory.schemas.image import Doubt, State, StoredImage, next_revision, now
from visual_memory.services.memory.expiring_tenants import ExpiringTenants
from visual_memory.services.memory.fill_encoder_vectors import Filling
from visual_memory.services.memory.points.collection_schema import open_collection, vector_name
from visual_memory.services.memory.points.page_cursor import point_of, to_cursor
from visual_memory.services.memory.points.point_filters import (
    MARKED,
    UNMARKED,
    accepted_by,
    begun_at,
    doubted,
    expired_of_every_tenant,
    in_state,
    known_at,
    not_expired,
    same_pictures,
    unamended,
    within,
)
from visual_memory.services.memory.points.point_filters import marked_by as _marked_by
from visual_memory.services.memory.points.point_payload import (
    AMENDABLE,
    amendment,
    grouped_by,
    has_picture,
    point_id,
    to_image,
    to_labels,
    to_point,
)
from visual_memory.services.memory.points.unit_vectors import check_queries, check_units
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.vector_engines.engine_contract import (
    EVERY_POINT,
    Answer,
    Compaction,
    Delete,
    Engine,
    Insert,
    Named,
    Payload,
    Point,
    PointFilter,
    Replace,
    Search,
    SetPayload,
    UpdateVectors,
    Vectors,
    Write,
)
from visual_memory.services.voting.group_copies import first_groups

GROUP_FIELDS = {GroupBy.CONTENT: "content_hash", GroupBy.NONE: "image_id"}
"""What images that share a vote have in common."""


@dataclass(frozen=True)
class Placed:
    """What became of images that were put or amended.

    Attributes:
        unreferenced: keys of pictures that no point has at this moment: of what was replaced, and of what was not put.
        being_removed: ids of those that were not put or amended because a removal has marked or taken them.
        overtaken: ids of those that were not put or amended because somebody else put or amended them first.
        after: what is there of all that was looked at afterwards, by image id.
    """

    unreferenced: Sequence[str] = ()
    being_removed: Sequence[str] = ()
    overtaken: Sequence[str] = ()
    after: Mapping[str, StoredImage] = dataclass_field(default_factory=dict)


class Hit(NamedTuple):
    """A remembered image that is near, with the labels of the moment that was asked for.

    Its cosine similarity is within -1 to 1; `group` is what it has in common with those that share its vote;
    `reliability` is for pruning to set.
    """

    image_id: str
    labels: tuple[str, ...]
    similarity: float
    group: str
    reliability: float = 1.0


class Hits(list[Hit]):
    """The images near a vector, by descending similarity, then by image id.

    Attributes:
        truncated: whether more might have been among them than were looked at.
    """

    def __init__(self, hits: Iterable[Hit] = (), truncated: bool = False) -> None:
        super().__init__(hits)
        self.truncated = truncated


@dataclass(frozen=True)
class Objection:
    """What speaks against an image that is about to be remembered: how others vote.

    Attributes:
        doubt: what is to become of it: ``warned`` or ``held``.
        reason: a sentence.
        voters: ids of the images that voted; it counts only while all of them do.
    """

    doubt: Doubt
    reason: str
    voters: Sequence[str]


NOT_DOUBTED = MappingProxyType({"doubt": None, "reason": None, "objectors": None, "pruned_from": None})
"""As a payload to set."""
DATED = frozenset({"state", "labels"})
"""Fields that say whether an image votes, and for what: ``changed_at`` says when they were written last."""


@dataclass(frozen=True)
class NotRemembered:
    """Images that were begun and get no vector.

    Attributes:
        rejected: they are given up, each for its reason, a sentence.
        released: they go on waiting; that they were begun is no attempt.
        postponed: as these, but their leases run to their ends.
    """

    rejected: Sequence[tuple[StoredImage, str]] = ()
    released: Sequence[StoredImage] = ()
    postponed: Sequence[StoredImage] = ()


NOTHING_ELSE = NotRemembered()
RELABEL_TRIES = 5
NOT_BEGUN = MappingProxyType({"begun_at": None, "lease": None})
"""In nobody's hands, as a payload to set."""


class Memory:
    """Images as points of one collection, seen by one encoder; call `open` before anything else.

    The images of a memory may have vectors of several encoders; see `under`. Every method raises
    `schemas.errors.Unavailable` where the engine does not answer or has dropped the encoder's vectors, and `OutOfSpace`
    where its disk is full. Every write is durable when it returns and harmless when repeated.

    Args:
        engine: holds the points; closed with the memory.
        encoder_name: the name of the vectors.
        dimension: their length.
        metadata: the declared metadata fields, which are indexed.

    Attributes:
        filling: gives these images the vectors of this encoder that they lack.
        dimension: as given.
        metadata: as given.
    """

    def __init__(self, engine: Engine, encoder_name: str, dimension: int, metadata: Mapping[str, FieldType]) -> None:
        self._engine = engine
        self._encoder = encoder_name
        self._vector = vector_name(encoder_name)
        self._done = {**NOT_BEGUN, "state": State.REMEMBERED.value, "encoder": encoder_name, "attempts": 0}
        self._expiring = ExpiringTenants(self.expired)
        self.filling = Filling(engine, encoder_name, dimension)
        self.dimension = dimension
        self.metadata = metadata

    def open(self) -> None:
        """Create the collection, or check that it is this encoder's and add indexes that it lacks.

        Raises:
            EncoderMismatch: it holds vectors of another name or length.
        """
        open_collection(self._engine, self._encoder, self.dimension, self.metadata)

    def under(self, encoder_name: str, dimension: int) -> "Memory":
        """The same images under another encoder, whose vectors the collection has; closed with this one."""
        return Memory(self._engine, encoder_name, dimension, self.metadata)

    def put(
        self,
        images: Sequence[StoredImage],
        held: Mapping[str, StoredImage] = MappingProxyType({}),
        amended: Sequence[tuple[StoredImage, StoredImage]] = (),
        vectors: Vectors | None = None,
    ) -> Placed:
        """Insert images of one tenant, or replace them whole, and amend others; in one write.

        Those that are replaced lose their vector where none comes with them. What was read is replaced or amended only
        while it has the picture and the revision that it was read with, and no removal has marked it: of several who
        put or amend the same image at once one does, and the others are told.

        Args:
            images: each id once.
            held: what was there of them when it was last read, by image id; others do not matter.
            amended: images as they were read, each with what it becomes: other labels or fields, and the history
                of the labels; nothing else of it is written.
            vectors: of images without pictures: float32 [len(images), dimension], rows of length 1. Where all are there
                afterwards, those that replaced nothing are not looked at.

        Raises:
            InvalidVector: a vector is not finite, zero, not of length 1, or there are not as many as images.
        """
        if vectors is not None:
            check_units(vectors, len(images), self.dimension)
        before = {image.image_id: held[image.image_id] for image in images if image.image_id in held}
        writes: list[Write] = []
        if fresh := [row for row, image in enumerate(images) if image.image_id not in before]:
            writes.append(Insert(*self._points(images, vectors, fresh)))
        there = [(row, before[image.image_id]) for row, image in enumerate(images) if image.image_id in before]
        for _, alike in grouped_by(there, _held_revision):
            points, rows = self._points(images, vectors, [row for row, _ in alike])
            writes.append(Replace(points, unamended([held for _, held in alike]), rows))
        revised = _revised(amended)
        writes += _amendments(revised)
        if not writes:
            return Placed()
        tenant = (*images, *(each for each, _ in amended))[0].tenant
        unseen = {images[row].image_id for row in fresh} if vectors is not None else set[str]()
        wanted = {*(image.image_id for image in images), *(image.image_id for image, _ in amended)}
        read = [point_id(tenant, image_id) for image_id in wanted - unseen]
        after = _by_id(self._write(writes, read))
        if unseen and self._engine.count(same_pictures([images[row] for row in fresh])) < len(fresh):
            after |= self.get(tenant, unseen)
            unseen = set()
        return _placed([image for image in images if image.image_id not in unseen], before, revised, after)

    def _points(
        self, images: Sequence[StoredImage], vectors: Vectors | None, rows: Sequence[int]
    ) -> tuple[list[Point], Named | None]:
        """The points of some of the images, and their vectors."""
        named = None if vectors is None else Named(self._vector, vectors[rows])
        return [to_point(images[row]) for row in rows], named

    def get(self, tenant: str, image_ids: Collection[str]) -> dict[str, StoredImage]:
        """Those images of a tenant that exist, by image id."""
        return _by_id(self._engine.retrieve([point_id(tenant, image_id) for image_id in set(image_ids)]))

    def page(
        self, tenant: str, clauses: Sequence[Clause], limit: int, cursor: str | None = None
    ) -> tuple[list[StoredImage], str | None]:
        """Some of the images that meet a filter, in an order that is fixed but without meaning.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            limit: at most so many, at least 1.
            cursor: where to go on, as the call before returned it.

        Returns:
            the images and the next cursor, None at the end. An image that was there all along comes exactly once.

        Raises:
            InvalidRequest: the cursor is not one of ours.
        """
        payloads, following = self._engine.scroll(within(tenant, clauses), limit, point_of(cursor))
        return [to_image(payload) for payload in payloads], to_cursor(following)

    def pages(
        self, tenant: str, clauses: Sequence[Clause], size: int, marked_by: str | None = None
    ) -> Iterator[list[StoredImage]]:
        """All images that meet a filter, at most so many at a time; with `marked_by`, of those a removal marked."""
        marked, cursor = [*clauses, *([] if marked_by is None else [_marked_by(marked_by)])], None
        while True:
            images, cursor = self.page(tenant, marked, size, cursor)
            yield images
            if cursor is None:
                return

    def embedded(
        self, tenant: str, clauses: Sequence[Clause], size: int, states: Collection[State] = ()
    ) -> Iterator[tuple[list[StoredImage], Vectors]]:
        """Images with vectors that meet a filter, at most so many at a time; by point id.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            size: at most so many at a time.
            states: in which they are, whether they have expired or not, but for those that a removal has marked; empty:
                those that vote at this moment.

        Yields:
            n images and their vectors, float32 [n, dimension] of length 1.
        """
        which = [in_state(*states), UNMARKED] if states else self._voting(tenant)
        where, point = within(tenant, [*clauses, *which], self._vector), None
        while True:
            points, point = self._engine.export(where, size, point)
            rows = [each.vectors[self._vector] for each in points]
            vectors = np.array(rows, np.float32).reshape(len(rows), self.dimension)
            yield [to_image(each.payload) for each in points], vectors
            if point is None:
                return

    def amend(self, image: StoredImage, changed: StoredImage) -> StoredImage | None:
        """Amend one image, as `put` does; what it is then, None where it was not amended."""
        placed = self.put((), amended=[(image, changed)])
        return None if placed.overtaken or placed.being_removed else placed.after[image.image_id]

    def oldest_waiting(self, tenant: str, limit: int, lease: timedelta) -> list[StoredImage]:
        """A tenant's images that wait and are in no worker's hands nor a removal's, those that were accepted first.

        Args:
            tenant: whose images.
            limit: at most so many.
            lease: how long an image that was begun is left to the worker that began it.
        """
        where = within(tenant, [in_state(State.WAITING), _unleased(lease), UNMARKED])
        return [to_image(payload) for payload in self._engine.oldest("accepted_at", where, limit)]

    def tenants_with_work(self, lease: timedelta) -> list[str]:
        """The tenants that have images which wait and are in no worker's hands; see `oldest_waiting`."""
        where = PointFilter(clauses=(in_state(State.WAITING), _unleased(lease), UNMARKED))
        return sorted(self._engine.facet("tenant", where))

    def begin(self, images: Sequence[StoredImage]) -> list[StoredImage]:
        """Begin to remember images: one attempt more, `begun_at` is the present, and they get a lease.

        Only those that still wait as they were read: of two workers that read the same image, one begins it.

        Args:
            images: of one tenant, as they were read.

        Returns:
            those that were begun, as they are now.
        """
        begun = {"begun_at": now().isoformat(), "lease": uuid.uuid4().hex}
        writes = [
            SetPayload(
                {**begun, "attempts": image.attempts + 1},
                same_pictures(alike, [in_state(State.WAITING), begun_at(image.begun_at), UNMARKED]),
            )
            for image, alike in grouped_by(images, _begun)
        ]
        held = self._written(writes, images)
        return [each for image in images if (each := held.get(image.image_id)) and each.lease == begun["lease"]]

    def remember(
        self,
        images: Sequence[StoredImage],
        vectors: Vectors,
        objections: Mapping[str, Objection] = MappingProxyType({}),
        others: NotRemembered = NOTHING_ELSE,
        further: Mapping[str, Vectors] = MappingProxyType({}),
    ) -> int:
        """End what `begin` has begun, of one tenant: with their vectors, with reasons, or with nothing.

        Whatever was taken out of the caller's hands meanwhile, by a removal, a new picture or the end of its lease, is
        quietly left as it is.

        Args:
            images: get their vectors.
            vectors: float32 [len(images), dimension], rows of length 1.
            objections: to some of these images, by image id.
            others: what was begun with these images, and gets no vector.
            further: vectors of other encoders for the same images, by the encoder's name: float32 [len(images), d],
                rows of length 1, or of NaN where there is none. Those of an encoder that was dropped are left out.

        Returns:
            how many of the images are remembered now.

        Raises:
            InvalidVector: a vector is not finite, zero, not of length 1, or there are not as many as images.
        """
        check_units(vectors, len(images), self.dimension)
        given = [*_further(images, further, self._waiting), *self._vectors(images, vectors, objections)]
        writes = [*self._without_vectors(others), *given]
        if not writes:
            return 0
        voters = {voter for objection in objections.values() for voter in objection.voters}
        held = self._written(writes, images, voters)
        if objections:
            remembered = {
                each for each, image in held.items() if image.state is State.REMEMBERED and image.removal is None
            }
            standing = {each: held for each, held in objections.items() if remembered.issuperset(held.voters)}
            held = self._written([*self._settled(images, standing)], images)
        return sum(
            image.state is State.REMEMBERED and image.picture == given.picture
            for given in images
            if (image := held.get(given.image_id))
        )

    def release(self, images: Sequence[StoredImage]) -> None:
        """Take back that images were begun, for a reason that is none of theirs.

        Args:
            images: of one tenant, as `begin` returned them; those that were begun by another since are spared.
        """
        releases = [*self._releases(images, NOT_BEGUN)]
        if releases:
            self._write(releases, urgent=True)  # or a full disk would cost them an attempt

    def mute(self, tenant: str, clauses: Sequence[Clause], wrong_votes: int | None = None) -> int:
        """Let the remembered images that meet a filter vote no more, in one operation; returns how many that were.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            wrong_votes: how many of them are the reason: a removal that leaves an image fewer takes it back. Without,
                those that are muted already stay so too.
        """
        muted: Payload = {**NOT_DOUBTED, "state": State.MUTED.value}
        if wrong_votes is not None:
            muted |= {"doubt": Doubt.PRUNED.value, "pruned_from": wrong_votes}
        number = self.count(tenant, [*clauses, in_state(State.REMEMBERED), UNMARKED])
        states = in_state(State.REMEMBERED, *([State.MUTED] if wrong_votes is None else []))
        self._write([SetPayload(muted, within(tenant, [*clauses, states, UNMARKED]))])
        return number

    def unmute(self, tenant: str, clauses: Sequence[Clause]) -> int:
        """Let the muted images that meet a filter vote again, in one operation; returns how many that were."""
        where = within(tenant, [*clauses, in_state(State.MUTED), UNMARKED])
        number = self._engine.count(where)
        self._write([SetPayload({**NOT_DOUBTED, "state": State.REMEMBERED.value}, where)], urgent=True)
        return number

    def relabel(self, images: Sequence[StoredImage], labels: Sequence[str], clauses: Sequence[Clause] = ()) -> int:
        """Give images of one tenant these labels, those that still have the same picture; returns how many got them.

        What was amended since it was read gets them too, where it meets a filter still.

        Args:
            images: as they were read.
            labels: theirs from now on.
            clauses: the checked filter.
        """
        moment, given, left = now(), 0, [*images]
        for _ in range(RELABEL_TRIES):
            if not left:
                break
            revised = _revised([(image, image.changed({"labels": [*labels]}, moment)) for image in left])
            after = self._written([*_amendments(revised, ("labels",))], left)
            missed = [image for image, becomes in revised if not _is_there(becomes, after.get(image.image_id))]
            given += len(left) - len(missed)
            read = [(image, after[image.image_id]) for image in missed if image.image_id in after]
            left = [held for image, held in read if held.picture == image.picture and _may_change(held, clauses)]
        return given

    def reconsider(self, tenant: str) -> None:
        """Take back all that was done to images because of how others vote, as some of these are gone.

        Those that were pruned vote again; those that were held wait, and are remembered anew; warnings are cleared.
        """
        if self.count(tenant, [doubted(*Doubt), UNMARKED]):
            self._write([*_reconsidered(tenant, UNMARKED)], urgent=True)

    def withdraw_objections(self, images: Sequence[StoredImage]) -> None:
        """Take back what was objected to images of one tenant: those that were held vote, the others go on as they are.

        Args:
            images: as they were read; what was decided about them since, or that a removal has marked, stays.
        """
        if images:
            objected = [doubted(Doubt.HELD, Doubt.WARNED), UNMARKED]
            vote = {**NOT_DOUBTED, "state": State.REMEMBERED.value}
            self._write([SetPayload(vote, same_pictures(images, [in_state(State.MUTED), *objected]))], urgent=True)
            self._write([SetPayload({**NOT_DOUBTED}, same_pictures(images, objected))], urgent=True)

    def object_again(self, images: Sequence[StoredImage], objections: Mapping[str, Objection]) -> None:
        """Let these objections to images stand, instead of those that there were.

        Args:
            images: of one tenant, held or warned of, as they were read; what was decided about them since, or that a
                removal has marked, stays.
            objections: to some of them, by image id.
        """
        self.withdraw_objections([image for image in images if image.image_id not in objections])
        for image in images:
            if image.image_id in objections:
                objection = objections[image.image_id]
                state = State.MUTED if objection.doubt is Doubt.HELD else State.REMEMBERED
                stands = {**_objected(objection), "reason": objection.reason, "state": state.value}
                unmarked = [doubted(Doubt.HELD, Doubt.WARNED), UNMARKED]
                where = same_pictures([image], [in_state(image.state), *unmarked])
                self._write([SetPayload(stands, where)], urgent=True)
                if not self._all_vote(image.tenant, objection):
                    self.withdraw_objections([image])

    def delete(self, images: Sequence[StoredImage]) -> None:
        """Delete images of one tenant, those that still have the same picture."""
        if images:
            self._write([Delete(same_pictures(images))])

    def nearest(
        self,
        tenant: str,
        vectors: Vectors,
        k: int,
        clauses: Sequence[Clause] = (),
        effort: Effort = Effort.BALANCED,
        as_of: datetime | None = None,
        group_by: GroupBy = GroupBy.CONTENT,
        leave_out: Callable[[str], bool] | None = None,
    ) -> list[Hits]:
        """The remembered images nearest to each vector; none that has expired by now, whenever it is asked as of.

        So many are looked at that all are seen which are as near as the k-th, and nothing depends on what else was ever
        in the memory; of those that are equally near, the ones with the lowest ids are the nearest. Where it would take
        more than `MAX_TIMES_K` k, this holds among those that the engine returned, and `Hits.truncated` says so.

        Args:
            tenant: whose images.
            vectors: float32 [n, dimension], finite, no row zero.
            k: at most so many for each vector, at least 1, those that share a vote counted once.
            clauses: the checked filter.
            effort: how thoroughly they are searched for.
            as_of: only images that had been accepted by this moment, with the labels that they had then; without those
                whose labels were changed so often since that they are not known any more.
            group_by: which images share a vote.
            leave_out: tells by their ids the images that are passed over.

        Raises:
            InvalidVector: a vector is not finite, zero or of another length.
        """
        check_queries(vectors, self.dimension)
        if not len(vectors):
            return []
        then = [] if as_of is None else known_at(as_of)
        asked = [*clauses, *then]
        where = within(tenant, [*asked, *self._voting(tenant)])
        fields = dict.fromkeys(("image_id", "labels", GROUP_FIELDS[group_by], *([] if as_of is None else ["history"])))
        # what looks alike is mostly labelled alike, and the graph has no paths of its own within a part of a range
        far = any(clause.field == "labels" or clause.bounds for clause in asked)
        found: dict[int, Hits] = {}
        for limit in (k + 1, MAX_TIMES_K * k):  # one more shows whether the last has its equals beyond
            left = [row for row in range(len(vectors)) if row not in found]
            search = Search(self._vector, where, limit, effort, tuple(fields), far)
            for row, answer in zip(left, self._engine.query_batch(vectors[left], search) if left else (), strict=True):
                hits = sorted(_hits(answer, as_of, group_by), key=lambda hit: (-hit.similarity, hit.image_id))
                voting = hits if leave_out is None else [hit for hit in hits if not leave_out(hit.image_id)]
                nearest, enough = first_groups(voting, k)
                whole = len(hits) < limit or (enough and nearest[-1].similarity > hits[-1].similarity)
                if whole or limit == MAX_TIMES_K * k:
                    found[row] = Hits(nearest, truncated=not whole)
        return [found[row] for row in range(len(vectors))]

    def counts_by_state(self, tenant: str, clauses: Sequence[Clause] = ()) -> dict[State, int]:
        """How many images that meet a filter are in each state; a state without any is left out."""
        return {State(value): count for value, count in self._engine.facet("state", within(tenant, clauses)).items()}

    def count_labels(self, tenant: str, clauses: Sequence[Clause] = ()) -> list[tuple[str, int]]:
        """Every label with how many images that meet a filter carry it; the most frequent first, then by name."""
        counts = self._engine.facet("labels", within(tenant, clauses))
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def expired(self, moment: datetime) -> list[str]:
        """The tenants that hold images which were to be kept until a moment at most; quick where few are."""
        return sorted(self._engine.facet("tenant", expired_of_every_tenant(moment)))

    def tenants(self) -> list[str]:
        """Everybody who has images."""
        return sorted(self._engine.facet("tenant", EVERY_POINT))

    def mark(
        self, tenant: str, clauses: Sequence[Clause], removal_id: str, accepted_until: datetime | None = None
    ) -> None:
        """Mark for a removal every image that meets a filter and that no other has marked, in one operation.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            removal_id: of the removal.
            accepted_until: only images that were accepted by then.
        """
        where = within(tenant, [*clauses, *([] if accepted_until is None else [accepted_by(accepted_until)]), UNMARKED])
        self._write([SetPayload({"removal": removal_id}, where)], urgent=True)

    def marked_pages(self, tenant: str, removal_id: str, size: int) -> Iterator[list[StoredImage]]:
        """All images that a removal has marked, at most so many at a time."""
        return self.pages(tenant, [], size, marked_by=removal_id)

    def has(self, tenant: str, field: str, value: Value) -> bool:
        """Whether an image that no removal has marked has a value in a field that a filter may name."""
        kind = FIELDS.get(field) or self.metadata.get(field.removeprefix("metadata."))
        if kind is None:
            return False
        return self._engine.count(within(tenant, [Clause(field, kind, (typed(field, kind, value),)), UNMARKED])) > 0

    def vector_digests(self, images: Sequence[StoredImage], *, with_pictures: bool = False) -> dict[str, list[str]]:
        """By what the vectors of some images are known again, of every encoder; by image id.

        Args:
            images: some.
            with_pictures: of all of them; else of those that came as vectors.
        """
        which = [image for image in images if with_pictures or not has_picture(image.picture)]
        ids = tuple(point_id(image.tenant, image.image_id) for image in which)
        points, _ = self._engine.export(PointFilter(ids=ids), len(ids), None) if ids else ([], None)
        return {
            point.payload["image_id"]: [
                digest
                for vector in point.vectors.values()
                for digest in vector_digests(np.asarray(vector, np.float32)[None])[0]
            ]
            for point in points
        }

    def marking(self, tenant: str | None = None) -> dict[str, int]:
        """The removals whose marks a tenant's images have, each with how many; None: every tenant's images."""
        return self._engine.facet("removal", PointFilter(tenant, (MARKED,)))

    def tenants_with_marks(self) -> list[str]:
        """The tenants of whom a removal has marked an image."""
        return sorted(self._engine.facet("tenant", PointFilter(clauses=(MARKED,))))

    def clear_marks(self, tenant: str, removal_ids: Collection[str]) -> None:
        """Take away the marks of some removals: of those that are done, and mark nothing any more.

        What was done to these images because of how others vote is taken back too, see `reconsider`: some of the others
        may have gone while a mark kept all hands off them.
        """
        if removal_ids:
            marked = _marked_by(*removal_ids)
            unmarked = SetPayload({"removal": None}, within(tenant, [marked]))
            self._write([*_reconsidered(tenant, marked), unmarked], urgent=True)

    def delete_noted(self, tenant: str, image_ids: Collection[str], marked_by: str) -> None:
        """Delete those of some images that a removal has marked still, in one operation."""
        if image_ids:
            ids = tuple(point_id(tenant, image_id) for image_id in image_ids)
            self._write([Delete(replace(within(tenant, [_marked_by(marked_by)]), ids=ids))])

    def count(self, tenant: str, clauses: Sequence[Clause] = (), marked_by: str | None = None) -> int:
        """How many images meet a filter; with `marked_by`, of those that this removal marked."""
        return self._engine.count(within(tenant, [*clauses, *([] if marked_by is None else [_marked_by(marked_by)])]))

    def size(self) -> int:
        """How many images there are, everybody's."""
        return self._engine.count(EVERY_POINT)

    def count_embedded(self, tenant: str, clauses: Sequence[Clause] = ()) -> int:
        """How many images that meet a filter have a vector of this encoder and no mark; others do not vote."""
        return self._engine.count(within(tenant, [*clauses, UNMARKED], self._vector))

    def compact(self) -> Compaction:
        """Erase what was deleted or overwritten before the call, of every tenant; see `Engine.compact`."""
        return self._engine.compact()

    def export(self, limit: int, cursor: str | None = None) -> tuple[list[Point], str | None]:
        """Whole points of every tenant, for a backup; see `Engine.export`."""
        return self._engine.export(EVERY_POINT, limit, cursor)

    def recover(self) -> None:
        """Put right what a compaction that died left changed, where none is at work."""
        self._engine.recover()

    def ping(self) -> None:
        """Return if the engine answers."""
        self._engine.ping()

    def close(self) -> None:
        """Release what is held; no other method may be called afterwards."""
        self._engine.close()

    def _write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """Every write goes through here: what may change how images vote is dated, so that it is found again."""
        moment = {"changed_at": now().isoformat()}
        return self._engine.write([_dated(write, moment) for write in writes], read, urgent)

    def _all_vote(self, tenant: str, objection: Objection) -> bool:
        """Whether all vote still that objected."""
        voters = Clause("image_id", FieldType.KEYWORD, tuple(objection.voters))
        return self.count(tenant, [voters, in_state(State.REMEMBERED), UNMARKED]) == len(objection.voters)

    def _voting(self, tenant: str) -> list[Clause]:
        """What an image must meet to vote."""
        remain = [in_state(State.REMEMBERED), UNMARKED]
        return [*remain, not_expired(now())] if tenant in self._expiring else remain

    def _vectors(
        self, images: Sequence[StoredImage], vectors: Vectors, objections: Mapping[str, Objection]
    ) -> Iterator[Write]:
        """Vectors, and that they are there; of images with objections, the doubts.

        The vector is a condition of the rest, so that a point which was put again in between is never called
        remembered without one.
        """
        if not images:
            return
        ids = [point_id(image.tenant, image.image_id) for image in images]
        yield UpdateVectors(ids, Named(self._vector, vectors), self._waiting(images))
        if clear := [image for image in images if image.image_id not in objections]:
            yield SetPayload({**self._done, **NOT_DOUBTED}, self._waiting(clear, vector=self._vector))
        for image in images:
            if image.image_id in objections:
                doubt = _objected(objections[image.image_id])
                yield SetPayload(doubt, self._waiting([image], vector=self._vector))

    def _settled(self, images: Sequence[StoredImage], objections: Mapping[str, Objection]) -> Iterator[Write]:
        """Remember or mute images whose doubt is still there, once it was seen that all of its voters are.

        The doubt was written before, and a removal takes doubts away after its points. So it finds the doubt, or the
        voters are found missing: then the image goes on waiting.
        """
        for image in images:
            if (objection := objections.get(image.image_id)) is not None:
                state = State.MUTED if objection.doubt is Doubt.HELD else State.REMEMBERED
                where = self._waiting([image], [doubted(objection.doubt)], vector=self._vector)
                yield SetPayload({**self._done, "state": state.value, "reason": objection.reason}, where)

    def _without_vectors(self, others: NotRemembered) -> Iterator[Write]:
        for image, reason in others.rejected:
            given_up = {**NOT_BEGUN, "state": State.REJECTED.value, "reason": reason}
            yield SetPayload(given_up, self._waiting([image]))
        yield from self._releases(others.released, NOT_BEGUN)
        yield from self._releases(others.postponed, {"lease": None})

    def _releases(self, images: Iterable[StoredImage], undone: Mapping[str, None]) -> Iterator[Write]:
        for image, alike in grouped_by(images, _begun):
            yield SetPayload({**undone, "attempts": image.attempts - 1}, self._waiting(alike))

    def _written(
        self, writes: Sequence[Write], images: Sequence[StoredImage], others: Iterable[str] = ()
    ) -> dict[str, StoredImage]:
        """Make writes; images of one tenant as they are afterwards, and others of it, by image id."""
        ids = {*(image.image_id for image in images), *others}
        wanted = [point_id(images[0].tenant, image_id) for image_id in ids]
        return _by_id(self._write(writes, wanted))

    def _waiting(
        self, images: Sequence[StoredImage], clauses: Sequence[Clause] = (), vector: str | None = None
    ) -> PointFilter:
        """Of images those that wait unmarked, still with the lease that they were read with."""
        leases = {image.lease for image in images if image.lease is not None}
        held = [Clause("lease", FieldType.KEYWORD, tuple(leases))] if leases else []
        return same_pictures(images, [in_state(State.WAITING), UNMARKED, *held, *clauses], vector)


def _reconsidered(tenant: str, which: Clause) -> Iterator[Write]:
    """Take back what was done to images because of how others vote."""
    waiting = {**NOT_DOUBTED, **NOT_BEGUN, "state": State.WAITING.value, "attempts": 0}
    yield SetPayload(waiting, within(tenant, [which, doubted(Doubt.HELD), in_state(State.MUTED)]))
    voting = {**NOT_DOUBTED, "state": State.REMEMBERED.value}
    yield SetPayload(voting, within(tenant, [which, doubted(Doubt.PRUNED), in_state(State.MUTED)]))
    yield SetPayload({**NOT_DOUBTED}, within(tenant, [which, doubted(*Doubt)]))


def _further(
    images: Sequence[StoredImage], further: Mapping[str, Vectors], where: Callable[[Sequence[StoredImage]], PointFilter]
) -> Iterator[Write]:
    """Vectors of other encoders, as far as there are some."""
    for encoder_name, vectors in further.items():
        rows = np.flatnonzero(~np.isnan(vectors).all(axis=1)).tolist()
        check_units(vectors[rows], len(rows), vectors.shape[1])
        if len(vectors) != len(images):
            raise InvalidVector(f"{len(images)} images need {len(images)} vectors of {encoder_name}")
        if len(rows):
            given = [images[row] for row in rows]
            ids = [point_id(image.tenant, image.image_id) for image in given]
            yield UpdateVectors(ids, Named(vector_name(encoder_name), vectors[rows]), where(given))


def _dated(write: Write, moment: Payload) -> Write:
    """The write with the moment of the change, where it may change how an image votes."""
    match write:
        case Insert() | Replace():
            return replace(write, points=[replace(each, payload=each.payload | moment) for each in write.points])
        case SetPayload() if not DATED.isdisjoint(write.payload):
            return replace(write, payload=write.payload | moment)
    return write


def _objected(objection: Objection) -> Payload:
    """What is there of an objection before it counts."""
    return {"doubt": objection.doubt.value, "objectors": list(objection.voters)}


def _hits(answer: Answer, as_of: datetime | None, group_by: GroupBy) -> Iterator[Hit]:
    """What was found, with the labels of a moment."""
    histories = answer.columns.get("history", repeat(None))
    groups = answer.columns[GROUP_FIELDS[group_by]]
    for image_id, labels, history, group, score in zip(
        answer.columns["image_id"], answer.columns["labels"], histories, groups, answer.scores, strict=False
    ):
        yield Hit(image_id, to_labels(labels, history, as_of), max(-1.0, min(1.0, score)), group)


def _by_id(payloads: Iterable[Payload]) -> dict[str, StoredImage]:
    return {image.image_id: image for image in map(to_image, payloads)}


def _amendments(
    amended: Sequence[tuple[StoredImage, StoredImage]], fields: Iterable[str] = AMENDABLE
) -> Iterator[Write]:
    """Set what images become, those that are as they were read; of the same revision and what is set, in one write."""
    groups: dict[tuple[int, str], tuple[Payload, list[StoredImage]]] = {}
    for image, changed in amended:
        payload = {**amendment(changed, fields), "revision": changed.revision}
        key = image.revision, json.dumps(payload, sort_keys=True)
        groups.setdefault(key, (payload, []))[1].append(image)
    for payload, alike in groups.values():
        yield SetPayload(payload, unamended(alike))


def _placed(
    images: Sequence[StoredImage],
    before: Mapping[str, StoredImage],
    amended: Sequence[tuple[StoredImage, StoredImage]],
    after: Mapping[str, StoredImage],
) -> Placed:
    """What became of images, by what is there afterwards.

    Args:
        images: were put.
        before: what was there of them.
        amended: as they were read, and as they were to become.
        after: what is there of both.
    """
    referenced = {image.picture for image in after.values()}
    known = {image.picture for image in (*images, *before.values())}
    missed = {image.image_id for image in images if image.picture not in referenced}
    missed |= {image.image_id for image, becomes in amended if not _is_there(becomes, after.get(image.image_id))}
    taken = {each for each in missed if each in after and after[each].removal is not None}
    taken |= {image.image_id for image in images} - after.keys()
    return Placed(tuple(sorted(known - referenced)), tuple(sorted(taken)), tuple(sorted(missed - taken)), after)


def _is_there(amended: StoredImage, after: StoredImage | None) -> bool:
    """Whether this very amendment is the last of the image."""
    return after is not None and (after.picture, after.revision) == (amended.picture, amended.revision)


def _may_change(image: StoredImage, clauses: Sequence[Clause]) -> bool:
    return image.removal is None and matches(clauses, image)


def _revised(amended: Iterable[tuple[StoredImage, StoredImage]]) -> list[tuple[StoredImage, StoredImage]]:
    """Images and what they become, at the revision that follows; the same for those that have the same."""
    listed = list(amended)
    following = {revision: next_revision(revision) for revision in {image.revision for image, _ in listed}}
    return [
        (image, changed.model_copy(update={"picture": image.picture, "revision": following[image.revision]}))
        for image, changed in listed
    ]


def _held_revision(replaced: tuple[int, StoredImage]) -> int:
    return replaced[1].revision


def _begun(image: StoredImage) -> tuple[int, datetime | None]:
    """How often it was begun, and when last."""
    return image.attempts, image.begun_at


def _unleased(lease: timedelta) -> Clause:
    """Begun longer ago than a lease, or not at all; or so far in the future that the clock was set back since."""
    moment = now()
    return Clause("begun_at", FieldType.DATETIME, bounds={"gt": moment - lease, "lte": moment + lease}, negated=True)
