"""Run an evaluation: send its pictures, wait until it ends, and unpack its report."""

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.evaluation_results import Evaluation
from visual_memory.schemas.image import ImageFields
from visual_memory.services.client.folders_and_manifests import PictureFile
from visual_memory.services.client.http_client import Client
from visual_memory.services.client.import_pictures import Progress, send
from visual_memory.services.evaluation.report.report_files import replace_files

POLL = 0.3
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
MAX_BYTES = 2**30
"""Bytes of a report's files, unpacked."""


def evaluate(
    client: Client,
    request: EvaluationRequest,
    number: int,
    found: Iterable[PictureFile],
    progress: Progress,
    refused: dict[str, str],
) -> EvaluationJob:
    """Evaluate the memory, and return when the evaluation is done.

    Args:
        client: a client of the service.
        request: what to evaluate.
        number: the number of pictures.
        found: labelled pictures; none if the memory is evaluated against itself.
        progress: reports the stages of the evaluation.
        refused: receives the reason of each refused picture, by its file.

    Raises:
        InvalidRequest: the evaluation failed, or was cancelled.
    """
    job = client.evaluate(request)
    if not request.itself:
        _send(client, job.id, found, lambda done: progress("sent", done, number), refused)
        client.start_evaluation(job.id)
    return _follow(client, job.id, progress)


def unpack(report: bytes, folder: Path) -> None:
    """Write the files of a report into a folder; they replace those of an earlier report.

    Raises:
        InvalidRequest: it is no report; nothing was written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(report)) as archive:
            entries = archive.infolist()
            wrong = [entry.filename for entry in entries if not NAME.fullmatch(entry.filename)]
            if wrong or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise InvalidRequest(f"the report was not unpacked: it is too large, or has strange files: {wrong}")
            replace_files(folder, {entry.filename: archive.read(entry) for entry in entries})
    except zipfile.BadZipFile:
        raise InvalidRequest("the report was not unpacked: what came is no zip file") from None


def read(folder: Path) -> Evaluation:
    """Read the figures of a report; neighbours and thumbnails are in other files."""
    numbers = json.loads((folder / "report.json").read_bytes())
    return Evaluation.model_validate({**numbers, "neighbours": {}, "thumbnails": {}})


def _send(
    client: Client,
    evaluation_id: str,
    found: Iterable[PictureFile],
    report: Callable[[int], None],
    refused: dict[str, str],
) -> None:
    def add(images: Sequence[tuple[bytes, ImageFields]]) -> Sequence[object]:
        labelled = [(data, ImageFields(labels=fields.labels, image_id=fields.image_id)) for data, fields in images]
        client.add_to_evaluation(evaluation_id, labelled)
        return images

    if not sum(len(sent) for sent in send(add, found, report, refused)):
        client.delete_evaluation(evaluation_id)
        raise InvalidRequest(f"no picture was accepted: {next(iter(refused.values()))}")


def _follow(client: Client, evaluation_id: str, progress: Progress) -> EvaluationJob:
    before = None
    while (job := client.evaluation(evaluation_id)).state in (JobState.WAITING, JobState.RUNNING):
        if before and before.stage != job.stage:  # the stage ended between two polls
            progress(before.stage or "waiting", before.total, before.total)
        progress(job.stage or "waiting", job.done, job.total)
        before = job
        time.sleep(POLL)
    if job.state is JobState.CANCELLED:
        raise InvalidRequest(f"the evaluation was cancelled by {job.cancelled_by}")
    if job.state is JobState.FAILED:
        raise InvalidRequest(f"the evaluation failed: {job.error}")
    return job
