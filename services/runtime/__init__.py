"""Runtime: processes, queue, jobs, logs, metrics, and where things lie on a machine."""
