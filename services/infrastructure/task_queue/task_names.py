"""The names of queues and tasks."""

REMEMBER_QUEUE = "remember"
"""One message for each tenant that has pictures to remember."""
PERIODIC_QUEUE = "periodic"
"""Messages from beat; workers read their queues round-robin, so a backlog in another queue delays none."""
JOB_QUEUE = "jobs"
"""One message for each tenant that has jobs."""
INTAKE_QUEUE = "intake"
"""Messages of external Celery producers: read by `services.intake.streams.relay_celery_messages`, and by no worker."""
QUEUES = (REMEMBER_QUEUE, PERIODIC_QUEUE, JOB_QUEUE)

REMEMBER_IMAGE = "visual_memory.remember_image"
REMEMBER = "visual_memory.remember"
RUN_JOBS = "visual_memory.run_jobs"
SWEEP_IMAGES = "visual_memory.sweep_images"
SWEEP_JOBS = "visual_memory.sweep_jobs"
RESUME_REMOVALS = "visual_memory.resume_removals"
EXPIRE = "visual_memory.expire"
START_JUDGEMENTS = "visual_memory.start_judgements"
TRIM_CHANGES = "visual_memory.trim_changes"

QUEUE_OF = {
    REMEMBER: REMEMBER_QUEUE,
    RUN_JOBS: JOB_QUEUE,
    **dict.fromkeys(
        (SWEEP_IMAGES, SWEEP_JOBS, RESUME_REMOVALS, EXPIRE, START_JUDGEMENTS, TRIM_CHANGES), PERIODIC_QUEUE
    ),
}
"""The queue of each task; messages for other tasks are dropped."""
