"""Moments that are stored: what is due by them must not wait for a clock that was set back."""

from datetime import datetime, timedelta


def is_over(since: datetime, duration: timedelta, moment: datetime) -> bool:
    """Whether a duration has passed at `moment` since a stored moment.

    One that lies in the future was stored by a clock that was wrong. Within the duration that may be the small
    difference between the clocks of two machines; from there on it delays nothing.
    """
    return abs(moment - since) >= duration
