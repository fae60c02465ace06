"""How use cases publish events; `services.infrastructure.events.event_publisher` implements it over Redis."""

from collections.abc import Collection
from typing import Protocol

from visual_memory.schemas.event import EventType


class Publish(Protocol):
    """Publishes an event; never raises and never waits, because an action must not fail or wait for it."""

    def __call__(
        self,
        tenant: str,
        event: EventType,
        image_ids: Collection[str] = (),
        /,
        *,
        count: int | None = None,
        **about: str | int | None,
    ) -> None:
        """Publish an event of now.

        Args:
            tenant: the tenant.
            event: its type.
            image_ids: the images that it is about, if they are known; their number is its count.
            count: the number of images, if it is another number or their ids are not known.
            about: further fields of `schemas.event.Event`; None: left out.
        """


def publish_nothing(
    _tenant: str,
    _event: EventType,
    _image_ids: Collection[str] = (),
    /,
    *,
    count: int | None = None,
    **about: str | int | None,
) -> None:
    """Do nothing: the process has no listeners."""
    del count, about
