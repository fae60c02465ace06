"""A memory in this process, without a service: its encoder and its embedded engine, on a data folder.

    from visual_memory import ImageFields
    from visual_memory.local import Memory

    with Memory("folder") as memory:
        memory.add([(Path("cat.jpg").read_bytes(), ImageFields(labels=["cat"]))])
        print(memory.classify([Path("what.jpg").read_bytes()]).decisions[0].label)

It needs the server packages: ``pip install 'visual-memory[server]'``. The folder is that of a service: `visual-memory
up` opens it later, with the same images, removals and receipts.
"""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from visual_memory.schemas.api_key import check_tenant
from visual_memory.schemas.background_job import OPEN, JobState
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.errors import InvalidRequest, NotFound, Unavailable
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.image import Accepted, ImageFields, StoredImage
from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.page import DEFAULT_LIMIT, Page, PageRequest
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.optional_packages import MissingExtra, explain_missing

try:
    from visual_memory.services.bootstrap.local_process import NO_LEASE, LocalProcess, local_process
    from visual_memory.services.decisions.classify_and_store import classify_and_store
    from visual_memory.services.intake.accept_pictures import Upload
    from visual_memory.services.settings import Settings
except ModuleNotFoundError as missing:
    message = explain_missing("visual_memory.local", missing.name or "")
    if message is None:
        raise
    raise MissingExtra(message) from missing

ACTOR = "local"
"""Who acted, in the audit log and in receipts."""


class Memory:
    """One tenant's memory in a data folder, which is locked until `close`.

    The settings are those of a service: the environment and ``visual-memory.toml``. Every method raises the errors of
    `visual_memory.schemas.errors`. Threads may share a memory. PyTorch computes with one thread for each batch, in all
    of this process.

    Args:
        folder: the data folder; it is made if there is none.
        tenant: whose memory; the first key that `visual-memory up` makes opens ``default``.

    Raises:
        Unavailable: another `Memory` or `visual-memory up` uses the folder.
        InvalidRequest: the settings name a Qdrant server or PostgreSQL, or the tenant's name is invalid.
    """

    def __init__(self, folder: str | Path, tenant: str = "default") -> None:
        self.tenant = check_tenant(tenant)
        self._opened = ExitStack()
        self._process: LocalProcess | None = self._opened.enter_context(
            local_process(Settings(data=Path(folder).absolute()))
        )
        self._changing = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine, stop the decoders, unlock the folder."""
        with self._changing:
            self._process = None
            self._opened.close()

    def add(
        self, images: Sequence[tuple[bytes, ImageFields]], label_rule: LabelRule = LabelRule.REPLACE
    ) -> list[Accepted]:
        """Store pictures with their fields, all or none, and remember them before this returns.

        Args:
            images: of an image that is stored, fields that are not set stay as they are, and None clears.
            label_rule: what happens to the labels of images that are stored.

        Returns:
            each image with its state: remembered; rejected where its vector could not be made.
        """
        process = self._open_process()
        with self._changing, process.audit.recorded_afterwards(self.tenant, ACTOR, "accept", images=len(images)):
            accepted = process.accept(self.tenant, [Upload(data, fields) for data, fields in images], label_rule)
            self._remember(process)
        stored = process.memory.images.get(self.tenant, {each.image_id for each in accepted})
        return [each.model_copy(update={"state": stored[each.image_id].state}) for each in accepted]

    def thumbnail(self, image_id: str) -> bytes:
        """A small JPEG of an image's picture, with a longest side of at most 256 pixels.

        Raises:
            NotFound: there is no such image, or it came as a vector.
        """
        process = self._open_process()
        image = process.memory.images.get(self.tenant, [image_id]).get(image_id)
        if image is None:
            raise NotFound(f"there is no image {image_id!r}")
        subjects = set() if image.subject is None else {image.subject}
        process.audit.write(self.tenant, ACTOR, "read", subjects, images=1)
        return process.load_thumbnail(image)

    def classify(
        self,
        pictures: Sequence[bytes],
        options: ClassifyOptions = ClassifyOptions(),  # noqa: B008 - frozen
    ) -> Decisions:
        """Classify pictures.

        Raises:
            InvalidRequest: the options ask for a vision-language model, which only a service asks.
        """
        if options.rerank:
            raise InvalidRequest("re-ranking needs a service: start `visual-memory up` and use the client")
        process = self._open_process()
        return classify_and_store(process.classify, process.decisions, self.tenant, ACTOR, options, pictures=pictures)

    def remove(self, request: RemovalRequest) -> Removal:
        """Remove the images that meet a filter; returns the record with its receipt.

        With ``erase_now`` the removed bytes are erased from the disk too; otherwise a service erases them later, or
        ``visual-memory compact``.
        """
        process = self._open_process()
        with self._changing, process.intake():
            removal = process.removal_steps.request(self.tenant, request, Requester(name=ACTOR))
            removal = process.removal_steps.resume(self.tenant, removal.id)
            process.removal_steps.resume_all()
            if request.erase_now:
                process.erase.if_due()
        return process.removals.load(self.tenant, removal.id).removal

    def suspects(
        self,
        kind: Suspicion | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        total: bool = False,
    ) -> Page[Suspect]:
        """A page of images that deserve a look, by kind, the strongest suspicion first; see `Client.suspects`.

        It judges the memory first, where it changed.
        """
        process = self._open_process()
        with self._changing:
            status = process.report_judgement.status(self.tenant)
            if status.current is None or status.stale:
                job = process.schedule_judgements.start(self.tenant, ACTOR)
                self._run_jobs(process, job.id)
        return process.list_suspects(self.tenant, PageRequest(limit, cursor, total), kind)

    def evaluate(self, request: EvaluationRequest, images: Sequence[tuple[bytes, ImageFields]] = ()) -> EvaluationJob:
        """Evaluate the memory against itself, or by labelled pictures; they are not remembered.

        It needs the evaluation packages: ``pip install 'visual-memory[evaluation]'``.

        Args:
            request: what to evaluate.
            images: the pictures with their labels; none if the request has ``itself``.

        Returns:
            the evaluation with its main figures; `report` returns the rest.
        """
        process = self._open_process()
        with self._changing:
            use_case = process.request_evaluation
            job = use_case.request(self.tenant, request, ACTOR)
            if images:
                use_case.add(self.tenant, job.id, [Upload(data, fields) for data, fields in images])
            use_case.start(self.tenant, job.id)
            self._run_jobs(process, job.id)
            done = process.evaluations.load(self.tenant, job.id)
        if done.state is JobState.FAILED:
            raise InvalidRequest(f"the evaluation failed: {done.error}")
        return done

    def report(self, evaluation_id: str) -> bytes:
        """The folder of an evaluation's report, as a zip file; ``report.html`` in it is what to look at."""
        return self._open_process().evaluations.report(self.tenant, evaluation_id)

    def _open_process(self) -> LocalProcess:
        process = self._process
        if process is None:
            raise Unavailable("this memory is closed")
        return process

    def _remember(self, process: LocalProcess) -> None:
        """Remember what waits, until nothing does or nothing changes."""
        before: list[StoredImage] = []
        while waiting := process.memory.leases.oldest_waiting(self.tenant, process.remember.slice_size, NO_LEASE):
            if waiting == before:
                return
            process.remember(self.tenant)
            before = waiting

    def _run_jobs(self, process: LocalProcess, job_id: str) -> None:
        """Run jobs, the oldest first, until one has ended."""
        while process.jobs.load(self.tenant, job_id).state in OPEN:
            process.run_jobs(self.tenant)
