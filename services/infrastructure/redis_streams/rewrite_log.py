"""Have Redis rewrite its append-only file, so that deleted entries are erased from the disk."""

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from visual_memory.schemas.errors import Unavailable

POLL = 0.05
LONGEST_REWRITE = 300.0
"""Longest duration of a rewrite, in seconds."""
OPERATORS = (
    "Entries were deleted from the intake's Redis; erasing them from its files is up to its operator, because this"
    " service may not have them rewritten."
)
DUMPS = (
    "Entries were deleted from the intake's Redis; it rewrites its log as a dump (aof-use-rdb-preamble), which may"
    " contain deleted entries between stored ones: erasing these is up to its operator."
)


def rewrite_log(redis: Any, sleep: Callable[[float], object] = time.sleep) -> str:
    """Rewrite the append-only file without the entries that were deleted.

    Args:
        redis: the client.
        sleep: waits for some seconds.

    Returns:
        what the operator of the server must do in addition, if this service may not rewrite the file or the rewritten
        file may contain deleted entries; empty if nothing.

    Raises:
        RedisError: the server does not answer.
        Unavailable: the rewrite failed, or took longer than `LONGEST_REWRITE`.
    """
    begun, waited = False, 0.0
    while waited < LONGEST_REWRITE:
        try:
            state = redis.info("persistence")
            if not state["aof_enabled"]:
                return OPERATORS
            if not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]):
                if begun:
                    break
                redis.bgrewriteaof()  # a rewrite that was running may have begun before the entries were deleted
                begun = True
        except NoPermissionError:
            return OPERATORS
        sleep(POLL)
        waited += POLL
    if begun and redis.info("persistence")["aof_last_bgrewrite_status"] == "ok":
        return "" if _writes_commands(redis) else DUMPS
    raise Unavailable("the intake's Redis did not rewrite its log: see its own log for the reason")


def _writes_commands(redis: Any) -> bool:
    """Whether the file is rewritten as commands: a dump copies whole nodes of streams, with their deleted entries."""
    try:
        return bool(redis.config_get("aof-use-rdb-preamble").get("aof-use-rdb-preamble") == "no")
    except ResponseError:  # not allowed
        return False
