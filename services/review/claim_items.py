"""Claim items of the review queue for a minute, so that two people do not review the same."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, delete

from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.review import CLAIM_SECONDS, ItemName, ReviewItem, ReviewKind
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import review_claims
from visual_memory.services.review.existing_items import ExistingItems
from visual_memory.services.review.list_review import ListReview
from visual_memory.services.review.review_rows import rows_of

PAGE = 100


@dataclass(frozen=True)
class Claimant:
    """Who claims items.

    Attributes:
        key: the API key's id: a claim belongs to a key.
        name: as the API knows them.
    """

    key: str
    name: str


@dataclass(frozen=True)
class ClaimItems:
    """Claims items of every tenant's review queue."""

    database: Database
    existing: ExistingItems
    list_review: ListReview

    def next(self, tenant: str, claimant: Claimant, limit: int, kind: ReviewKind | None = None) -> list[ReviewItem]:
        """Hold the next items that nobody else holds; those that the key holds already are held anew.

        Args:
            tenant: whose queue.
            claimant: for whom.
            limit: the maximum number of items.
            kind: only items of this kind.

        Returns:
            the held items, in the order of the queue.
        """
        held, cursor = list[ReviewItem](), None
        while True:
            page = self.list_review(tenant, PageRequest(PAGE, cursor), kind)
            held += self._hold(tenant, claimant, page.data, limit - len(held))
            cursor = page.next_cursor
            if len(held) == limit or cursor is None:
                return held

    def named(self, tenant: str, claimant: Claimant, names: Sequence[ItemName]) -> list[ReviewItem]:
        """Hold named items of the queue, reviewed or not; those that others hold, and those not in it, are left out."""
        found = self.list_review.named(tenant, names)
        return self._hold(tenant, claimant, found, len(found))

    def release(self, tenant: str, key: str) -> None:
        """Release everything that a key holds."""
        own = (review_claims.c.tenant == tenant) & (review_claims.c.key == key)
        with self.database.write() as connection:
            self.database.serial(connection, _claims_lock(tenant))
            connection.execute(delete(review_claims).where(own))

    def _hold(self, tenant: str, claimant: Claimant, items: Sequence[ReviewItem], limit: int) -> list[ReviewItem]:
        """Hold the first of some items that exist and that nobody else holds, at most so many."""
        with self.database.write() as connection:
            self.database.serial(connection, _claims_lock(tenant))
            moment = self.database.moment(connection)
            over = (review_claims.c.tenant == tenant) & (review_claims.c.until <= moment)
            connection.execute(delete(review_claims).where(over))
            existing = {each.name: each for each in self.existing(connection, tenant, map(_name, items))}
            taken = self._taken(connection, tenant, claimant, existing)
            held = [item for item in items if _name(item) in existing and _name(item) not in taken][:limit]
            until = moment + timedelta(seconds=CLAIM_SECONDS)
            values = {"key": claimant.key, "by": claimant.name, "until": until}
            for item in held:
                row = {"kind": item.kind, "record": item.id, "decision": existing[_name(item)].decision, **values}
                written = self.database.insert(review_claims).values(tenant=tenant, **row)
                connection.execute(
                    written.on_conflict_do_update(index_elements=["tenant", "kind", "record"], set_=values)
                )
        return [item.model_copy(update={"claimed_by": claimant.name, "claimed_until": until}) for item in held]

    def _taken(
        self, connection: Connection, tenant: str, claimant: Claimant, names: Collection[ItemName]
    ) -> set[ItemName]:
        """The items that others hold."""
        return {
            ItemName(kind=kind, id=record)
            for kind in ReviewKind
            for record, row in rows_of(
                connection, review_claims, tenant, kind, [name.id for name in names if name.kind is kind]
            ).items()
            if row.key != claimant.key
        }


def _name(item: ReviewItem) -> ItemName:
    return ItemName(kind=item.kind, id=item.id)


def _claims_lock(tenant: str) -> str:
    """The name of the lock under which claims of a tenant are written, one after the other."""
    return f"review claims:{tenant}"
