"""The names of the keys in the intake's Redis, and the order of entry ids."""

import re
from dataclasses import dataclass
from enum import StrEnum

GROUP = "visual-memory"
"""The consumer group of every stream that is read."""
NOTHING = "0-0"
"""The last id of a stream that never had an entry."""
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Inbox(StrEnum):
    """The kinds of streams that producers send to."""

    INTAKE = "intake"
    REMOVALS = "removals"


@dataclass(frozen=True)
class StreamKeys:
    """The names of a tenant's keys.

    Attributes:
        prefix: of all names.
    """

    prefix: str

    def inbox(self, inbox: Inbox, tenant: str) -> str:
        """A stream that producers send to."""
        return f"{self.prefix}:{inbox}:{tenant}"

    def intake(self, tenant: str) -> str:
        """The stream of images."""
        return self.inbox(Inbox.INTAKE, tenant)

    def removals(self, tenant: str) -> str:
        """The stream of removal requests."""
        return self.inbox(Inbox.REMOVALS, tenant)

    def results(self, tenant: str) -> str:
        """The stream of results."""
        return f"{self.prefix}:results:{tenant}"

    def dead(self, tenant: str) -> str:
        """The stream of dead letters."""
        return f"{self.prefix}:dead:{tenant}"

    def accepted(self, tenant: str) -> str:
        """The hash of accepted entries without a final result."""
        return f"{self.prefix}:accepted:{tenant}"

    def attempts(self, tenant: str) -> str:
        """The hash that counts how often each entry was processed on its own."""
        return f"{self.prefix}:attempts:{tenant}"

    def all_of(self, tenant: str) -> list[str]:
        """Every key of a tenant."""
        inboxes = [self.inbox(inbox, tenant) for inbox in Inbox]
        return [*inboxes, self.results(tenant), self.dead(tenant), self.accepted(tenant), self.attempts(tenant)]

    def tenant_of(self, key: str) -> str | None:
        """The tenant of a stream that producers send to; None if the key is no such stream."""
        for inbox in Inbox:
            tenant = key.removeprefix(f"{self.prefix}:{inbox}:")
            if tenant != key and _TENANT.fullmatch(tenant):
                return tenant
        return None


def order(entry_id: str) -> tuple[int, int]:
    """The sort key of entry ids; as text, 10-0 would precede 9-0.

    Raises:
        ValueError: it is not the id of an entry.
    """
    moment, dash, number = entry_id.partition("-")
    if not (moment.isascii() and moment.isdigit() and (not dash or (number.isascii() and number.isdigit()))):
        raise ValueError("not the id of a stream's entry")
    return int(moment), int(number or 0)
