"""Wait for the end of a background job, and show its progress."""

import time

from visual_memory.schemas.background_job import ENDED, JobState
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.services.cli.exit_codes import fail
from visual_memory.services.cli.terminal_output import progress_bar
from visual_memory.services.client.http_client import Client

POLL_SECONDS = 0.5


def wait_for_job(client: Client, job_id: str, complaint: str, *, quiet: bool) -> JobWithResult:
    """Show the progress of a job until it is done; exits with code 1 if it fails or is cancelled.

    Args:
        client: a client of the service.
        job_id: the id of the job.
        complaint: what is printed before the reason of a failure.
        quiet: show no progress.
    """
    with progress_bar(quiet=quiet) as progress:
        task = progress.add_task("waiting", total=None)
        while (job := client.job(job_id)).state not in ENDED:
            progress.update(task, description=job.stage or "waiting", completed=job.done, total=job.total or None)
            time.sleep(POLL_SECONDS)
    if job.state is not JobState.DONE:
        fail(f"{complaint}: {job.error or f'it was cancelled by {job.cancelled_by}'}")
    return job
