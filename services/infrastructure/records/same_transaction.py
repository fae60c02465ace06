"""What else is done in the transaction that makes or changes a record: whoever asks for it logs it there."""

from collections.abc import Callable

from sqlalchemy import Connection

Within = Callable[[Connection, str], object]
"""Is given the transaction and the record's id, as the last thing in it; what it raises undoes all of it."""


def nothing_else(_connection: Connection, _record: str) -> None:
    """What is done where nobody asks for anything."""
