"""Queues and tasks by name."""

REMEMBER_QUEUE = "remember"
"""A message for each tenant that has pictures to remember."""
PERIODIC_QUEUE = "periodic"
"""What beat sends: workers take from both in turn, so no backlog delays it."""
QUEUES = (REMEMBER_QUEUE, PERIODIC_QUEUE)
REMEMBER = "visual_memory.remember"
JOB = "visual_memory.job"
SWEEP = "visual_memory.sweep"
TIDY = "visual_memory.tidy"
COMPACT = "visual_memory.compact"
CURATE = "visual_memory.curate"
TASKS = frozenset({REMEMBER, JOB, SWEEP, TIDY, COMPACT, CURATE})
"""No message asks for anything else."""
