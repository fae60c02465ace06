"""The names of the keys in the intake's Redis, and how the ids of entries are ordered."""

import re
from dataclasses import dataclass
from enum import StrEnum

GROUP = "visual-memory"
"""The consumer group of every stream that is read."""
NOTHING = "0-0"
"""The last id of a stream that never had an entry."""
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Inbox(StrEnum):
    """What producers send to."""

    INTAKE = "intake"
    REMOVALS = "removals"


@dataclass(frozen=True)
class StreamKeys:
    """The names of a tenant's keys.

    Attributes:
        prefix: what all names begin with.
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
        """The stream of what became of entries."""
        return f"{self.prefix}:results:{tenant}"

    def dead(self, tenant: str) -> str:
        """The stream of dead letters."""
        return f"{self.prefix}:dead:{tenant}"

    def accepted(self, tenant: str) -> str:
        """The hash of entries that were accepted and wait to be remembered."""
        return f"{self.prefix}:accepted:{tenant}"

    def attempts(self, tenant: str) -> str:
        """The hash of entries that were begun by themselves, and how often."""
        return f"{self.prefix}:attempts:{tenant}"

    def all_of(self, tenant: str) -> list[str]:
        """Every key of a tenant."""
        inboxes = [self.inbox(inbox, tenant) for inbox in Inbox]
        return [*inboxes, self.results(tenant), self.dead(tenant), self.accepted(tenant), self.attempts(tenant)]

    def tenant_of(self, key: str) -> str | None:
        """Whose stream a key is that producers send to; None where it is none."""
        for inbox in Inbox:
            tenant = key.removeprefix(f"{self.prefix}:{inbox}:")
            if tenant != key and _TENANT.fullmatch(tenant):
                return tenant
        return None


def order(entry_id: str) -> tuple[int, int]:
    """What ids of one stream are ordered by: text would put 10-0 before 9-0.

    Raises:
        ValueError: it is no id of an entry.
    """
    moment, dash, number = entry_id.partition("-")
    if not (moment.isascii() and moment.isdigit() and (not dash or (number.isascii() and number.isdigit()))):
        raise ValueError("not the id of a stream's entry")
    return int(moment), int(number or 0)
