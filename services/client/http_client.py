"""The client: everything that the API offers, as one small class that anyone can import.

from visual_memory.services.client.http_client import Client

with Client("http://127.0.0.1:8700", key="vm_...") as memory:
    memory.add([(Path("cat.jpg").read_bytes(), ImageFields(labels=["cat"]))])
    print(memory.classify([Path("what.jpg").read_bytes()]).decisions[0].label)
"""

import io
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx
from pydantic import TypeAdapter

from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.background_job import Job
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.curation_request import Curated, CurationRequest
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.encoder import EncoderSummary
from visual_memory.schemas.errors import (
    BeingRemoved,
    InvalidRequest,
    RateLimited,
    RequestRunning,
    Unavailable,
    VisualMemoryError,
)
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.explanation import (
    Counterfactual,
    ExplanationJob,
    Influence,
    Preview,
    PreviewRequest,
    Replay,
    ReplayRequest,
)
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Accepted, Image, ImageFields, ImagePage, ImagePatch
from visual_memory.schemas.judgement import JudgementStatus, Suspect, Suspicion
from visual_memory.schemas.labels import LabelCount, LabelRule
from visual_memory.schemas.receipt import FilterCheck, PublicKey
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRIES = 5
ACCEPTED = 202
UNANSWERED = frozenset({502, 503, 504})
REPEATED = UNANSWERED | {429}
"""After these a request is sent again: nothing was done, or what was done may be done twice."""
_AUDIT = TypeAdapter(list[AuditEntry])
_ACCEPTED = TypeAdapter(list[Accepted])
_AMENDED: TypeAdapter[Image | Accepted] = TypeAdapter(Image | Accepted)
_ENCODERS = TypeAdapter(list[EncoderSummary])
_DECISIONS = TypeAdapter(list[DecisionSummary])
_EVALUATIONS = TypeAdapter(list[EvaluationJob])
_LABELS = TypeAdapter(list[LabelCount])
_REMOVALS = TypeAdapter(list[Removal])
_SUSPECTS = TypeAdapter(list[Suspect])


class Client:
    """Speaks to one Visual Memory.

    A call is sent again, for some seconds, where the connection is refused or a part does not answer (502 to 504); and
    when the answer says, where the key is over its limits (429), a removal has the image, or the same request is being
    worked on (409 ``being_removed``, ``request_running``). A removal, curation or job goes under an
    ``Idempotency-Key``, the same each time, so that it is done once. Nothing is sent again after a connection that was
    lost. Every method raises the error of `schemas.errors` that the API answered with, or `Unavailable` where there was
    no answer.

    Args:
        url: where the API is.
        key: the API key, ``vm_...``; without one only `readiness` answers.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, url: str = "http://127.0.0.1:8700", key: str | None = None, timeout: float = 120.0) -> None:
        self.url = url
        self.key = key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def add(self, images: Sequence[tuple[bytes, ImageFields]], labels: LabelRule = LabelRule.REPLACE) -> list[Accepted]:
        """Send pictures with their fields, all or none; they are durable when this returns, remembered soon after.

        Args:
            images: of one that is there, fields that were not set stay as they are, and None clears.
            labels: what becomes of the labels of those that are there.
        """
        return _ACCEPTED.validate_json(self._send("/v1/images", images, labels=labels.value).content)

    def add_vectors(
        self,
        encoder: str,
        vectors: "NDArray[np.float32]",
        fields: Sequence[ImageFields],
        labels: LabelRule = LabelRule.REPLACE,
    ) -> list[Accepted]:
        """Send vectors that were made by the service's encoder, all or none; they are remembered when this returns.

        Args:
            encoder: its name.
            vectors: [n, d], at most 4,096 at once.
            fields: n of them, or a single one for all; see `add`.
            labels: see `add`.
        """
        import numpy as np

        file = io.BytesIO()
        np.save(file, vectors, allow_pickle=False)
        lines = "\n".join(each.model_dump_json(exclude_unset=True) for each in fields)
        parts = {"vectors": ("vectors.npy", file.getvalue()), "fields": ("fields.jsonl", lines.encode())}
        answer = self._call(
            "POST", "/v1/vectors", files=parts, data={"encoder": encoder}, params={"labels": labels.value}
        )
        return _ACCEPTED.validate_json(answer.content)

    def image(self, image_id: str) -> Image:
        """What is known of an image."""
        return Image.model_validate_json(self._call("GET", f"/v1/images/{image_id}").content)

    def images(self, where: Filter = Filter({}), page: int = 500) -> Iterator[Image]:  # noqa: B008 - frozen
        """Every image that meets a filter, asked for page by page."""
        asked: dict[str, Any] = {"filter": where.model_dump_json(), "limit": page}
        while True:
            answer = ImagePage.model_validate_json(self._call("GET", "/v1/images", params=asked).content)
            yield from answer.images
            if answer.cursor is None:
                return
            asked["cursor"] = answer.cursor

    def amend(self, image_id: str, patch: ImagePatch, seen: Image | None = None) -> Image | Accepted:
        """Change an image's labels and fields; what the patch leaves out stays.

        Returns:
            the image as it is then; to a key that may not `read` it, its state.

        Args:
            image_id: its id.
            patch: the changes.
            seen: the image as it was read; with it, one that was changed since is refused (`PreconditionFailed`).
        """
        body = patch.model_dump_json(exclude_unset=True)
        headers = {"Content-Type": "application/json", **_if_match(seen)}
        answer = self._call("PATCH", f"/v1/images/{image_id}", content=body, headers=headers)
        return _AMENDED.validate_json(answer.content)

    def picture(self, image_id: str) -> bytes:
        """The picture as it was sent."""
        return self._call("GET", f"/v1/images/{image_id}/picture").content

    def labels(self) -> list[LabelCount]:
        """How many images carry each label, and how each class does, if it was judged."""
        return _LABELS.validate_json(self._call("GET", "/v1/labels").content)

    def classify(self, pictures: Sequence[bytes], options: ClassifyOptions = ClassifyOptions()) -> Decisions:  # noqa: B008
        """Classify pictures."""
        parts = [("files", ("picture", data)) for data in pictures]
        answer = self._call("POST", "/v1/classify", files=parts, data={"options": options.model_dump_json()})
        return Decisions.model_validate_json(answer.content)

    def classify_vectors(
        self,
        vectors: Sequence[Sequence[float]],
        options: ClassifyOptions = ClassifyOptions(),  # noqa: B008
        encoder: str | None = None,
    ) -> Decisions:
        """Classify vectors of the encoder that classifies; with its name they are refused once another does."""
        body = {**options.model_dump(mode="json"), "vectors": [list(vector) for vector in vectors], "encoder": encoder}
        return Decisions.model_validate_json(self._call("POST", "/v1/classify", json=body).content)

    def encoders(self) -> list[EncoderSummary]:
        """The encoders that the memory knows, and which one classifies."""
        return _ENCODERS.validate_json(self._call("GET", "/v1/encoders").content)

    def judge(self) -> Job:
        """Let the memory be judged by itself; the job, or the one that runs already."""
        return Job.model_validate_json(self._call("POST", "/v1/judgements", keyed=True).content)

    def judgement(self) -> JudgementStatus:
        """The judgement that counts, class by class, and how far the next one is."""
        return JudgementStatus.model_validate_json(self._call("GET", "/v1/judgement").content)

    def suspects(self, kind: Suspicion | None = None, limit: int = 100) -> list[Suspect]:
        """Images that deserve a look, by kind, the strongest suspicion first."""
        asked = {"limit": limit, **({} if kind is None else {"kind": kind.value})}
        return _SUSPECTS.validate_json(self._call("GET", "/v1/suspects", params=asked).content)

    def curate(self, request: CurationRequest) -> Curated:
        """Mute, unmute or relabel what meets a filter."""
        body = request.model_dump_json(exclude_defaults=True)
        return Curated.model_validate_json(
            self._call("POST", "/v1/curations", keyed=not request.dry_run, **_json(body)).content
        )

    def decisions(self, limit: int = 100, label: str | None = None) -> list[DecisionSummary]:
        """The latest stored decisions, of a label if one is named."""
        asked = {"limit": limit} | ({} if label is None else {"label": label})
        return _DECISIONS.validate_json(self._call("GET", "/v1/decisions", params=asked).content)

    def decision(self, decision_id: str) -> StoredDecision:
        """A stored decision."""
        return StoredDecision.model_validate_json(self._call("GET", f"/v1/decisions/{decision_id}").content)

    def delete_decision(self, decision_id: str) -> None:
        """Delete a stored decision."""
        self._call("DELETE", f"/v1/decisions/{decision_id}")

    def replay(self, decision_id: str, request: ReplayRequest = ReplayRequest()) -> Replay:  # noqa: B008 - frozen
        """Run a stored decision against today's memory."""
        body = request.model_dump_json(exclude_none=True)
        return Replay.model_validate_json(
            self._call("POST", f"/v1/decisions/{decision_id}/replay", **_json(body)).content
        )

    def counterfactual(self, decision_id: str) -> Counterfactual | ExplanationJob:
        """The fewest images without which a stored decision would have another label; the job, where it takes long."""
        answer = self._call("POST", f"/v1/decisions/{decision_id}/counterfactual", keyed=True)
        found = ExplanationJob if answer.status_code == ACCEPTED else Counterfactual
        return found.model_validate_json(answer.content)

    def question(self, job_id: str) -> ExplanationJob:
        """How far a counterfactual or influence is that became a job; with what was found, once it is done."""
        return ExplanationJob.model_validate_json(self._call("GET", f"/v1/jobs/{job_id}").content)

    def preview_change(self, request: PreviewRequest) -> Preview:
        """Which stored decisions would have another label if something were done to images; does nothing."""
        body = request.model_dump_json(exclude_defaults=True)
        return Preview.model_validate_json(self._call("POST", "/v1/decisions/preview", **_json(body)).content)

    def influence(self, last: int = 1000) -> Influence | ExplanationJob:
        """Which images decide most of the latest stored decisions; the job, where there is much to read."""
        answer = self._call("POST", "/v1/influence", params={"last": last}, keyed=True)
        found = ExplanationJob if answer.status_code == ACCEPTED else Influence
        return found.model_validate_json(answer.content)

    def preview(self, request: RemovalRequest) -> RemovalPreview:
        """What a removal would cover; changes nothing."""
        body = request.model_copy(update={"dry_run": True}).model_dump_json()
        return RemovalPreview.model_validate_json(self._call("POST", "/v1/removals", **_json(body)).content)

    def remove(self, request: RemovalRequest) -> Removal:
        """Remove what meets a filter; the receipt, or the record of a removal that still runs."""
        body = request.model_copy(update={"dry_run": False}).model_dump_json()
        return Removal.model_validate_json(self._call("POST", "/v1/removals", keyed=True, **_json(body)).content)

    def remove_image(self, image_id: str, seen: Image | None = None) -> Removal:
        """Remove one image; `seen`: see `amend`."""
        answer = self._call("DELETE", f"/v1/images/{image_id}", keyed=True, headers=_if_match(seen))
        return Removal.model_validate_json(answer.content)

    def removal(self, removal_id: str) -> Removal:
        """The record of a removal; its receipt, once it is done."""
        return Removal.model_validate_json(self._call("GET", f"/v1/removals/{removal_id}").content)

    def receipt(self, removal_id: str, *, erasure: bool = False) -> str:
        """The receipt of a removal that is done, or of its erasure: a text to be kept byte for byte."""
        kind = "erasure-receipt" if erasure else "receipt"
        return self._call("GET", f"/v1/removals/{removal_id}/{kind}").text

    def receipt_key(self) -> PublicKey:
        """The public key that receipts are checked with."""
        return PublicKey.model_validate_json(self._call("GET", "/v1/receipts/key").content)

    def is_receipt_of(self, removal_id: str, condition: Filter) -> bool:
        """Whether the receipt of a removal, which names its filter by a digest, is of this filter."""
        body = f'{{"filter": {condition.model_dump_json()}}}'
        answer = self._call("POST", f"/v1/removals/{removal_id}/check", **_json(body))
        return FilterCheck.model_validate_json(answer.content).matches

    def removals(self, limit: int = 100, before: datetime | None = None) -> list[Removal]:
        """The removals, at most 1,000, the latest first; those that were asked for before a moment, if one is given."""
        params = {"limit": limit} | ({} if before is None else {"before": before.isoformat()})
        return _REMOVALS.validate_json(self._call("GET", "/v1/removals", params=params).content)

    def evaluate(self, request: EvaluationRequest) -> EvaluationJob:
        """Begin an evaluation: of the memory against itself at once; else it waits for pictures, and to be started."""
        return self._evaluation("POST", "/v1/evaluations", keyed=True, **_json(request.model_dump_json()))

    def add_to_evaluation(self, evaluation_id: str, images: Sequence[tuple[bytes, ImageFields]]) -> EvaluationJob:
        """Send pictures with their labels to an evaluation, all or none; they are not remembered."""
        answer = self._send(f"/v1/evaluations/{evaluation_id}/pictures", images)
        return EvaluationJob.model_validate_json(answer.content)

    def start_evaluation(self, evaluation_id: str) -> EvaluationJob:
        """Let a worker do an evaluation that has all its pictures."""
        return self._evaluation("POST", f"/v1/evaluations/{evaluation_id}/start", keyed=True)

    def evaluations(self) -> list[EvaluationJob]:
        """The latest evaluations, the latest first."""
        return _EVALUATIONS.validate_json(self._call("GET", "/v1/evaluations").content)

    def evaluation(self, evaluation_id: str) -> EvaluationJob:
        """How far an evaluation is; its main figures, once it is done."""
        return self._evaluation("GET", f"/v1/evaluations/{evaluation_id}")

    def report(self, evaluation_id: str) -> bytes:
        """The folder of an evaluation's report, as a zip file."""
        return self._call("GET", f"/v1/evaluations/{evaluation_id}/report").content

    def delete_evaluation(self, evaluation_id: str) -> EvaluationJob:
        """Delete an evaluation with its report, whether it is done or not."""
        return self._evaluation("DELETE", f"/v1/evaluations/{evaluation_id}")

    def audit(self, limit: int = 100, subject: str | None = None) -> list[AuditEntry]:
        """Who did what, the latest first; only who looked at a subject, if one is given."""
        params = {"limit": limit} | ({} if subject is None else {"subject": subject})
        return _AUDIT.validate_json(self._call("GET", "/v1/audit", params=params).content)

    def readiness(self) -> dict[str, Any]:
        """Every part of the service by name, as ``/readyz`` tells it; not tried again."""
        try:
            answer = self._http.get("/readyz")
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        body: dict[str, Any] = answer.json()
        return body

    def _send(self, path: str, images: Sequence[tuple[bytes, ImageFields]], **asked: str) -> httpx.Response:
        parts = [("files", (_name_of(said), data)) for data, said in images]
        fields = [fields.model_dump_json(exclude_unset=True) for _, fields in images]
        return self._call("POST", path, files=parts, data={"fields": fields}, params=asked)

    def _evaluation(self, method: str, path: str, **arguments: Any) -> EvaluationJob:
        return EvaluationJob.model_validate_json(self._call(method, path, **arguments).content)

    def _call(self, method: str, path: str, *, keyed: bool = False, **arguments: Any) -> httpx.Response:
        """Send a request, and again where that is right; `keyed`: under a key, so that it is done once."""
        headers = {**arguments.pop("headers", {}), **({"Idempotency-Key": str(uuid.uuid4())} if keyed else {})}
        for tries_left in reversed(range(TRIES)):
            pause = 0.2 * 2 ** (TRIES - tries_left)
            try:
                answer = self._http.request(method, path, headers=headers, **arguments)
            except httpx.ConnectError as error:  # nothing was sent
                if not tries_left:
                    raise self._unreachable(error) from None
            except httpx.TransportError as error:
                raise self._unreachable(error) from None
            else:
                if not answer.is_error:
                    return answer
                refusal = error_of(answer.status_code, answer.text, answer.headers.get("Retry-After", ""))
                if not tries_left or not _may_repeat(answer.status_code, refusal):
                    raise refusal
                pause = getattr(refusal, "retry_after", pause)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"nothing answers at {self._http.base_url} ({error or type(error).__name__})")


def _if_match(seen: Image | None) -> dict[str, str]:
    return {} if seen is None else {"If-Match": seen.etag}


def _name_of(fields: ImageFields) -> str:
    """What a picture's part is called: as its file, where that is known and not said, see `ImageFields.of_file`."""
    return fields.file_name if fields.file_name and "file_name" not in fields.model_fields_set else "picture"


def _json(body: str) -> Mapping[str, Any]:
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def _may_repeat(status: int, error: VisualMemoryError) -> bool:
    """Whether nothing was done, or by a part that did not answer, so that sending it again is right."""
    return status in REPEATED or isinstance(error, BeingRemoved | RequestRunning)


def error_of(status: int, text: str, retry_after: str = "") -> VisualMemoryError:
    """The error that an answer stands for: in the class of its code, or where that is unknown, in that of its status.

    Args:
        status: from 400 on.
        text: the body.
        retry_after: the header of this name, where there is one.
    """
    try:
        told = json.loads(text)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", f"an answer that is not the API's: {status} {text[:200]}"
    known = kinds_by_code().get(code)
    error = known(message) if known else _of_status(status)(f"{message} ({code})" if code else message)
    if isinstance(error, RateLimited | BeingRemoved | RequestRunning) and retry_after.isdecimal():
        error.retry_after = int(retry_after)
    return error


def _of_status(status: int) -> type[VisualMemoryError]:
    """The most general class of error with this status; a newer service may know others."""
    if status in UNANSWERED:
        return Unavailable
    same = [kind for kind in kinds_by_code().values() if kind.status == status]
    if same:
        return min(same, key=lambda kind: len(kind.__mro__))
    return InvalidRequest if status < 500 else VisualMemoryError


def kinds_by_code(base: type[VisualMemoryError] = VisualMemoryError) -> dict[str, type[VisualMemoryError]]:
    """Every class of error by its code."""
    return {base.code: base} | {
        code: kind for child in base.__subclasses__() for code, kind in kinds_by_code(child).items()
    }
