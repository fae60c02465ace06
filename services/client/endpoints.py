"""Every request of the API: what is sent, and what the answer is read as.

Each function describes one endpoint; `Client` and `AsyncClient` send what it returns. Every method raises the error of
`visual_memory.schemas.errors` that the API answered with, or `Unavailable` where there was no answer.

Lists come in pages, and each function of a list takes the same parameters: `limit`, the maximum number of items, 1 to
1,000; `cursor`, the `next_cursor` of the page before, None for the first page; and `total`, whether to count the items
of all pages. `Client.iterate` walks through all pages.
"""

import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter

from visual_memory.schemas.api_key import Key, NewKey, TenantKeyRequest
from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.bulk_request import BulkRequest
from visual_memory.schemas.change import Change, ChangePreview
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.dead_letter import ShownDeadLetter
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.encoder import EncoderSummary
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.explanation import (
    Counterfactual,
    DecisionPreview,
    DecisionPreviewRequest,
    Influence,
    Replay,
    ReplayRequest,
)
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Accepted, Image, ImageFields, ImagePatch
from visual_memory.schemas.image_search import LATEST_FIRST, FoundImage, ImageSort
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.schemas.judgement import JudgementStatus, Suspect, Suspicion
from visual_memory.schemas.labels import LabelCount, LabelRule
from visual_memory.schemas.page import DEFAULT_LIMIT, Page
from visual_memory.schemas.receipt import FilterCheck, PublicKey
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
from visual_memory.schemas.review import ReviewClaim, ReviewItem, ReviewKind, ReviewMark
from visual_memory.schemas.session import Me
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision
from visual_memory.schemas.usage import Usage
from visual_memory.services.client.parse_answer import parse_json
from visual_memory.services.client.retry_policy import TRIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ACCEPTED = 202
EVERY_IMAGE = Filter({})
JSON = {"Content-Type": "application/json"}

Result = TypeVar("Result")
Item = TypeVar("Item")

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


@dataclass(frozen=True)
class Request(Generic[Result]):
    """A request, and how its answer is read.

    Attributes:
        method: of HTTP.
        path: below the address of the service.
        read: turns the answer into a result.
        options: as `httpx.Client.request` takes them: ``params``, ``headers``, ``content``, ``json``, ``data``,
            ``files``.
        tries: the maximum number of times that it is sent.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], Result]
    options: Mapping[str, Any]
    tries: int = TRIES


def add(
    images: Sequence[tuple[bytes, ImageFields]], label_rule: LabelRule = LabelRule.REPLACE
) -> Request[list[Accepted]]:
    """Send pictures with their fields, all or none; they are durable when this returns, remembered soon after.

    Args:
        images: of an image that is stored, fields that are not set stay as they are, and None clears.
        label_rule: what happens to the labels of images that are stored.
    """
    return _items(_upload("/v1/images", images, Page[Accepted], params={"label_rule": label_rule.value}))


def add_vectors(
    encoder: str,
    vectors: "NDArray[np.float32]",
    fields: Sequence[ImageFields],
    label_rule: LabelRule = LabelRule.REPLACE,
) -> Request[list[Accepted]]:
    """Send vectors that the service's encoder made, all or none; they are remembered when this returns.

    Args:
        encoder: its name.
        vectors: [n, d], at most 4,096 at once.
        fields: n of them, or a single one for all; see `add`.
        label_rule: see `add`.
    """
    import numpy as np

    file = io.BytesIO()
    np.save(file, vectors, allow_pickle=False)
    lines = "\n".join(each.model_dump_json(exclude_unset=True) for each in fields)
    parts = {"vectors": ("vectors.npy", file.getvalue()), "fields": ("fields.jsonl", lines.encode())}
    data, params = {"encoder": encoder}, {"label_rule": label_rule.value}
    return _items(_request("POST", "/v1/vectors", Page[Accepted], files=parts, data=data, params=params))


def image(image_id: str) -> Request[Image]:
    """The fields and the state of an image."""
    return _request("GET", f"/v1/images/{image_id}", Image)


def images(
    where: Filter = EVERY_IMAGE,
    *,
    sort: ImageSort = LATEST_FIRST,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    total: bool = False,
) -> Request[Page[Image]]:
    """A page of the images that meet a filter; `search` takes filters that are too long for a URL.

    Args:
        where: the filter.
        sort: the order, by a moment: the earliest first, with ``-`` the latest; images without it come last.
        limit: the maximum number of images, 1 to 1,000.
        cursor: the `next_cursor` of the page before; None: the first page.
        total: whether to count the images of all pages; above about 100,000 an estimate.
    """
    return _list("/v1/images", Page[Image], limit, cursor, total, filter=where.model_dump_json(), sort=sort)


def search(
    where: Filter = EVERY_IMAGE,
    *,
    similar_to: str | Sequence[float] | None = None,
    sort: ImageSort | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    total: bool = False,
) -> Request[Page[FoundImage]]:
    """A page of the images that meet a filter, which may be too long for a URL; or the images most similar to one.

    Args:
        where: the filter.
        similar_to: the id of an image, or a vector of the active encoder: the most similar images come first, each with
            its `similarity`, on a single page; not with `sort`, `cursor` and `total`.
        sort: see `images`; None: the latest first.
        limit: the maximum number of images, 1 to 1,000.
        cursor: the `next_cursor` of the page before; None: the first page.
        total: whether to count the images of all pages.
    """
    body: dict[str, Any] = {"filter": where.model_dump(mode="json"), "limit": limit}
    if similar_to is not None:
        kind = "image_id" if isinstance(similar_to, str) else "vector"
        body["similar_to"] = {kind: similar_to if isinstance(similar_to, str) else [*map(float, similar_to)]}
    given = {"sort": sort, "cursor": cursor, "total": total or None}
    body |= {name: value for name, value in given.items() if value is not None}
    return _request("POST", "/v1/images/search", Page[FoundImage], json=body)


def amend(image_id: str, patch: ImagePatch, seen: Image | None = None) -> Request[Image | Accepted]:
    """Change an image's labels and fields; what the patch leaves out stays.

    Returns:
        the changed image; to a key that may not `read` it, its state.

    Args:
        image_id: its id.
        patch: the changes.
        seen: the image as it was read; with it, an image that was changed since is refused (`PreconditionFailed`).
    """
    kind: TypeAdapter[Image | Accepted] = _adapter(Image | Accepted)
    body = {"content": patch.model_dump_json(exclude_unset=True), "headers": {**JSON, **_if_match(seen)}}
    return Request("PATCH", f"/v1/images/{image_id}", partial(_parse, kind), body)


def picture(image_id: str) -> Request[bytes]:
    """The picture as it was sent."""
    return Request("GET", f"/v1/images/{image_id}/picture", _content, {})


def thumbnail(image_id: str) -> Request[bytes]:
    """A small JPEG of the picture, with a longest side of at most 256 pixels."""
    return Request("GET", f"/v1/images/{image_id}/thumbnail", _content, {})


def labels(
    where: Filter = EVERY_IMAGE, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[LabelCount]]:
    """A page of the labels, the most frequent first, with the number of images and the accuracy of each.

    Args:
        where: only images that meet it are counted.
        limit: see above.
        cursor: see above.
        total: see above.
    """
    return _list("/v1/labels", Page[LabelCount], limit, cursor, total, filter=where.model_dump_json())


def classify(
    pictures: Sequence[bytes],
    options: ClassifyOptions = ClassifyOptions(),  # noqa: B008 - frozen
) -> Request[Decisions]:
    """Classify pictures."""
    parts = [("files", ("picture", data)) for data in pictures]
    return _request("POST", "/v1/classify", Decisions, files=parts, data={"options": options.model_dump_json()})


def classify_vectors(
    vectors: Sequence[Sequence[float]],
    options: ClassifyOptions = ClassifyOptions(),  # noqa: B008 - frozen
    encoder: str | None = None,
) -> Request[Decisions]:
    """Classify vectors of the active encoder; with its name they are refused once another encoder is active."""
    body = {**options.model_dump(mode="json"), "vectors": [list(vector) for vector in vectors], "encoder": encoder}
    return _request("POST", "/v1/classify", Decisions, json=body)


def encoders(
    *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[EncoderSummary]]:
    """A page of the encoders of the memory, by when they were added, and which one is active."""
    return _list("/v1/encoders", Page[EncoderSummary], limit, cursor, total)


def judge() -> Request[Job]:
    """Judge the memory: classify each image by the others. Returns the job, or the one that runs already."""
    return _request("POST", "/v1/judgements", Job, once=True)


def judgement() -> Request[JudgementStatus]:
    """The current judgement, class by class, and the progress of the next one."""
    return _request("GET", "/v1/judgement", JudgementStatus)


def suspects(
    kind: Suspicion | None = None, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[Suspect]]:
    """A page of images that deserve a look, by kind, the strongest suspicion first."""
    return _list("/v1/suspects", Page[Suspect], limit, cursor, total, kind=kind and kind.value)


def review(
    kind: ReviewKind | None = None,
    *,
    include_reviewed: bool = False,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    total: bool = False,
) -> Request[Page[ReviewItem]]:
    """A page of what is worth a look, the highest score first: doubted images, suspects, unknown or close decisions.

    Args:
        kind: only items of this kind.
        include_reviewed: list items that were looked at too.
        limit: see above.
        cursor: see above.
        total: see above.
    """
    reviewed = "true" if include_reviewed else None
    given = {"kind": kind and kind.value, "include_reviewed": reviewed}
    return _list("/v1/review", Page[ReviewItem], limit, cursor, total, **given)


def mark_reviewed(kind: ReviewKind, item_id: str) -> Request[ReviewMark]:
    """Mark an item of the review queue as looked at."""
    return _request("PUT", f"/v1/review/{kind.value}/{item_id}", ReviewMark)


def unmark_reviewed(kind: ReviewKind, item_id: str) -> Request[None]:
    """Take the mark of an item back."""
    return Request("DELETE", f"/v1/review/{kind.value}/{item_id}", lambda _: None, {})


def claim_reviews(claim: ReviewClaim) -> Request[list[ReviewItem]]:
    """Hold items of the review queue for a minute, so that nobody else reviews them; returns those that are held."""
    return _items(_request("POST", "/v1/review/claims", Page[ReviewItem], content=claim.model_dump_json()))


def release_reviews() -> Request[None]:
    """Release all items that this key holds."""
    return Request("DELETE", "/v1/review/claims", lambda _: None, {})


def curate(request: CurationRequest) -> Request[Change]:
    """Mute, unmute or relabel the images that meet a filter; `undo` takes the change back."""
    return _request("POST", "/v1/curations", Change, once=True, content=request.model_dump_json(exclude_defaults=True))


def preview_curation(request: CurationRequest) -> Request[ChangePreview]:
    """What a curation would change; changes nothing."""
    body = request.model_dump_json(exclude_defaults=True)
    return _request("POST", "/v1/curations/preview", ChangePreview, content=body)


def bulk(request: BulkRequest) -> Request[Change]:
    """Relabel, mute, unmute or amend images by filter or by their ids; `undo` takes the change back."""
    return _request("POST", "/v1/images/bulk", Change, once=True, content=request.model_dump_json(exclude_unset=True))


def preview_bulk(request: BulkRequest) -> Request[ChangePreview]:
    """What `bulk` would change; changes nothing."""
    body = request.model_dump_json(exclude_unset=True)
    return _request("POST", "/v1/images/bulk/preview", ChangePreview, content=body)


def changes(*, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False) -> Request[Page[Change]]:
    """A page of the changes of images, the latest first."""
    return _list("/v1/changes", Page[Change], limit, cursor, total)


def change(change_id: str) -> Request[Change]:
    """A change: what was done, by whom, to how many images, and whether it was undone."""
    return _request("GET", f"/v1/changes/{change_id}", Change)


def undo(change_id: str) -> Request[Change]:
    """Undo a change; returns the undo, a change that can be undone too. Images that changed since stay as they are."""
    return _request("POST", f"/v1/changes/{change_id}/undo", Change, once=True)


def decisions(
    label: str | None = None, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[DecisionSummary]]:
    """A page of the stored decisions, the latest first; of a label if one is named."""
    return _list("/v1/decisions", Page[DecisionSummary], limit, cursor, total, label=label)


def decision(decision_id: str) -> Request[StoredDecision]:
    """A stored decision."""
    return _request("GET", f"/v1/decisions/{decision_id}", StoredDecision)


def delete_decision(decision_id: str) -> Request[None]:
    """Delete a stored decision."""
    return Request("DELETE", f"/v1/decisions/{decision_id}", lambda _: None, {})


def replay(decision_id: str, request: ReplayRequest = ReplayRequest()) -> Request[Replay]:  # noqa: B008 - frozen
    """Make a stored decision again, with the memory of today."""
    body = request.model_dump_json(exclude_none=True)
    return _request("POST", f"/v1/decisions/{decision_id}/replay", Replay, content=body)


def counterfactual(decision_id: str) -> Request[Counterfactual | JobWithResult]:
    """The fewest images without which a stored decision has another label; a job where that takes long."""
    read = partial(_or_job, Counterfactual)
    return Request("POST", f"/v1/decisions/{decision_id}/counterfactual", read, {"headers": _once()})


def jobs(
    kind: JobKind | None = None,
    state: JobState | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    total: bool = False,
) -> Request[Page[Job]]:
    """A page of the jobs of the kinds that the key sees, the latest first; of one kind or in one state if given."""
    asked = {"kind": kind.value if kind else None, "state": state.value if state else None}
    return _list("/v1/jobs", Page[Job], limit, cursor, total, **asked)


def job(job_id: str) -> Request[JobWithResult]:
    """The progress of a job and, once it is done, its result or the route of it."""
    return _request("GET", f"/v1/jobs/{job_id}", JobWithResult)


def cancel_job(job_id: str) -> Request[JobWithResult]:
    """Cancel a job: a waiting one never begins, a running one stops soon; one that has ended raises `Conflict`."""
    return _request("POST", f"/v1/jobs/{job_id}/cancel", JobWithResult)


def preview_change(request: DecisionPreviewRequest) -> Request[DecisionPreview]:
    """Which stored decisions would change their label if images were changed; changes nothing."""
    return _request(
        "POST", "/v1/decisions/preview", DecisionPreview, content=request.model_dump_json(exclude_defaults=True)
    )


def influence(last: int = 1000) -> Request[Influence | JobWithResult]:
    """Which images decide most of the latest stored decisions; a job where there is much to read."""
    read = partial(_or_job, Influence)
    return Request("POST", "/v1/influence", read, {"params": {"last": last}, "headers": _once()})


def preview_removal(request: RemovalRequest) -> Request[RemovalPreview]:
    """What a removal would cover, and what else it would delete or change; changes nothing."""
    return _request("POST", "/v1/removals/preview", RemovalPreview, content=request.model_dump_json())


def remove(request: RemovalRequest) -> Request[Removal]:
    """Remove the images that meet a filter; with the receipt if it is done within a second."""
    return _request("POST", "/v1/removals", Removal, once=True, content=request.model_dump_json())


def remove_image(image_id: str, seen: Image | None = None) -> Request[Removal]:
    """Remove one image, with the receipt if it is done within a second; `seen`: see `amend`."""
    return _request("DELETE", f"/v1/images/{image_id}", Removal, once=True, headers=_if_match(seen))


def removal(removal_id: str) -> Request[Removal]:
    """The record of a removal; its receipt, once it is done."""
    return _request("GET", f"/v1/removals/{removal_id}", Removal)


def receipt(removal_id: str, *, erasure: bool = False) -> Request[str]:
    """The receipt of a removal that is done, or of its erasure: keep the text byte for byte."""
    kind = "erasure-receipt" if erasure else "receipt"
    return Request("GET", f"/v1/removals/{removal_id}/{kind}", lambda answer: answer.text, {})


def receipt_key() -> Request[PublicKey]:
    """The public key that verifies receipts."""
    return _request("GET", "/v1/receipts/key", PublicKey)


def is_receipt_of(removal_id: str, condition: Filter) -> Request[bool]:
    """Whether the receipt of a removal, which names its filter by a digest, is of this filter."""

    def matches(answer: httpx.Response) -> bool:
        check: FilterCheck = _parse(_adapter(FilterCheck), answer)
        return check.matches

    body = f'{{"filter": {condition.model_dump_json()}}}'
    return Request("POST", f"/v1/removals/{removal_id}/check", matches, {"content": body, "headers": JSON})


def removals(*, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False) -> Request[Page[Removal]]:
    """A page of the removals, the latest first."""
    return _list("/v1/removals", Page[Removal], limit, cursor, total)


def evaluate(request: EvaluationRequest) -> Request[EvaluationJob]:
    """Begin an evaluation: of the memory against itself at once; else it waits for pictures, and to be started."""
    return _request("POST", "/v1/evaluations", EvaluationJob, once=True, content=request.model_dump_json())


def add_to_evaluation(evaluation_id: str, images: Sequence[tuple[bytes, ImageFields]]) -> Request[EvaluationJob]:
    """Send pictures with their labels to an evaluation, all or none; they are not remembered."""
    return _upload(f"/v1/evaluations/{evaluation_id}/pictures", images, EvaluationJob)


def start_evaluation(evaluation_id: str) -> Request[EvaluationJob]:
    """Start an evaluation that has all its pictures."""
    return _request("POST", f"/v1/evaluations/{evaluation_id}/start", EvaluationJob, once=True)


def evaluations(
    *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[EvaluationJob]]:
    """A page of the evaluations, the latest first."""
    return _list("/v1/evaluations", Page[EvaluationJob], limit, cursor, total)


def evaluation(evaluation_id: str) -> Request[EvaluationJob]:
    """The progress of an evaluation; its main figures, once it is done."""
    return _request("GET", f"/v1/evaluations/{evaluation_id}", EvaluationJob)


def report(evaluation_id: str) -> Request[bytes]:
    """The folder of an evaluation's report, as a zip file."""
    return Request("GET", f"/v1/evaluations/{evaluation_id}/report", _content, {})


def delete_evaluation(evaluation_id: str) -> Request[EvaluationJob]:
    """Delete an evaluation with its report, whether it is done or not."""
    return _request("DELETE", f"/v1/evaluations/{evaluation_id}", EvaluationJob)


def audit(
    subject: str | None = None, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[AuditEntry]]:
    """A page of who did what, the latest first; only who looked at a subject, if one is given."""
    return _list("/v1/audit", Page[AuditEntry], limit, cursor, total, subject=subject)


def dead_letters(
    *, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False
) -> Request[Page[ShownDeadLetter]]:
    """A page of the entries of the intake that could not be accepted, the latest first."""
    return _list("/v1/intake/dead", Page[ShownDeadLetter], limit, cursor, total)


def me() -> Request[Me]:
    """Who the caller is: its tenant, scopes and limits, and what is switched on."""
    return _request("GET", "/v1/me", Me)


def usage(first: date | None = None, last: date | None = None) -> Request[Usage]:
    """What the tenant holds now, and what was counted on each day, in UTC; counts of the last seconds may be missing.

    Args:
        first: the first day; None: 29 days before the last.
        last: the last day, at most 399 days after the first; None: today.
    """
    days = {"from": first, "to": last}
    return _request(
        "GET", "/v1/usage", Usage, params={name: day.isoformat() for name, day in days.items() if day is not None}
    )


def keys(*, limit: int = DEFAULT_LIMIT, cursor: str | None = None, total: bool = False) -> Request[Page[Key]]:
    """A page of the keys of the tenant, revoked ones too, the oldest first."""
    return _list("/v1/keys", Page[Key], limit, cursor, total)


def create_key(request: TenantKeyRequest) -> Request[NewKey]:
    """Make a key for the tenant; its text is returned only here."""
    return _request("POST", "/v1/keys", NewKey, once=True, content=request.model_dump_json())


def rotate_key(key_id: str) -> Request[NewKey]:
    """Give a key another secret, and end its sessions."""
    return _request("POST", f"/v1/keys/{key_id}/rotate", NewKey)


def revoke_key(key_id: str) -> Request[Key]:
    """Revoke a key for good, and end its sessions."""
    return _request("DELETE", f"/v1/keys/{key_id}", Key)


def readiness() -> Request[dict[str, Any]]:
    """Every component of the service by name, as ``/readyz`` reports it; sent once."""
    return Request("GET", "/readyz", lambda answer: dict(answer.json()), {}, tries=1)


def _request(method: str, path: str, kind: type[Result], *, once: bool = False, **options: Any) -> Request[Result]:
    """A request whose answer is JSON; `once`: with an ``Idempotency-Key``, so that it is done once."""
    json = JSON if "content" in options else {}
    headers = {**json, **options.pop("headers", {}), **(_once() if once else {})}
    return Request(method, path, partial(_parse, _adapter(kind)), {**options, "headers": headers})


def _list(
    path: str, kind: type[Result], limit: int, cursor: str | None, total: bool, /, **params: str | None
) -> Request[Result]:
    """A request for a page of a list; parameters that are None are left out."""
    paging = {"limit": limit, "cursor": cursor, "total": "true" if total else None}
    return _request("GET", path, kind, params=_given({**params, **paging}))


def _items(request: Request[Page[Item]]) -> Request[list[Item]]:
    """A request whose answer is a list that is never cut into pages."""

    def read(answer: httpx.Response) -> list[Item]:
        return request.read(answer).data

    return Request(request.method, request.path, read, request.options, request.tries)


def _upload(
    path: str, images: Sequence[tuple[bytes, ImageFields]], kind: type[Result], **options: Any
) -> Request[Result]:
    parts = [("files", (_part_name(fields), data)) for data, fields in images]
    data = {"fields": [fields.model_dump_json(exclude_unset=True) for _, fields in images]}
    return Request("POST", path, partial(_parse, _adapter(kind)), {"files": parts, "data": data, **options})


def _part_name(fields: ImageFields) -> str:
    """The file's name, where the caller knows it and does not set it as a field; see `ImageFields.of_file`."""
    return fields.file_name if fields.file_name and "file_name" not in fields.model_fields_set else "picture"


def _parse(kind: TypeAdapter[Result], answer: httpx.Response) -> Result:
    return parse_json(kind, answer.content)


def _content(answer: httpx.Response) -> bytes:
    return answer.content


Answer = TypeVar("Answer", Counterfactual, Influence)


def _or_job(kind: type[Answer], answer: httpx.Response) -> Answer | JobWithResult:
    read: TypeAdapter[Answer | JobWithResult] = _adapter(JobWithResult if answer.status_code == ACCEPTED else kind)
    return _parse(read, answer)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _if_match(seen: Image | None) -> dict[str, str]:
    return {} if seen is None else {"If-Match": seen.etag}


def _once() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}
