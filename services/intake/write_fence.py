"""Whether whoever accepts may still do so: what was read from a stream may be another reader's by now."""

from typing import Protocol


class WriteGuard(Protocol):
    """Asked before each write and after it; what either raises is raised to whoever accepts."""

    def check_before(self) -> None:
        """Return if images may be written now; where it raises, nothing is."""

    def check_after(self) -> None:
        """Return if what was written since the last `check_before` may stay; where it raises, it is taken back."""


class NoGuard:
    """Of those who need none: what they accept came to them alone."""

    def check_before(self) -> None:
        """Return."""

    def check_after(self) -> None:
        """Return."""


NO_GUARD = NoGuard()
