"""Queues and tasks by name."""

REMEMBER_QUEUE = "remember"
"""A message for each tenant that has pictures to remember."""
PERIODIC_QUEUE = "periodic"
"""What beat sends: workers take from both in turn, so no backlog delays it."""
JOB_QUEUE = "jobs"
"""A message for each tenant that has jobs."""
INTAKE_QUEUE = "intake"
"""What others send by Celery: no worker takes from it, see `services.intake.streams.celery_relay`."""
QUEUES = (REMEMBER_QUEUE, PERIODIC_QUEUE, JOB_QUEUE)

REMEMBER_IMAGE = "visual_memory.remember_image"
REMEMBER = "visual_memory.remember"
RUN_JOBS = "visual_memory.run_jobs"
SWEEP_IMAGES = "visual_memory.sweep_images"
SWEEP_JOBS = "visual_memory.sweep_jobs"
RESUME_REMOVALS = "visual_memory.resume_removals"
EXPIRE = "visual_memory.expire"
START_JUDGEMENTS = "visual_memory.start_judgements"

QUEUE_OF = {
    REMEMBER: REMEMBER_QUEUE,
    RUN_JOBS: JOB_QUEUE,
    **dict.fromkeys((SWEEP_IMAGES, SWEEP_JOBS, RESUME_REMOVALS, EXPIRE, START_JUDGEMENTS), PERIODIC_QUEUE),
}
"""The queue of each task; no message asks for anything else."""
