"""Moments that are stored: what is due by them must not wait for a clock that was set back."""

from datetime import datetime, timedelta

CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much the clocks of two machines may differ."""


def is_over(since: datetime, duration: timedelta, moment: datetime, differ: timedelta = CLOCKS_DIFFER) -> bool:
    """Whether a duration has passed since a stored moment, or the moment is one that cannot have been yet.

    Args:
        since: the stored moment.
        duration: what has to pass.
        moment: the present.
        differ: how far in the future a moment may lie for which it is waited all the same.
    """
    return moment - since >= duration or since - moment > differ
