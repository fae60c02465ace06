"""List the review queue, mark its items as looked at, and claim them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.page import Page
from visual_memory.schemas.review import KIND, ItemName, ReviewClaim, ReviewItem, ReviewKind, ReviewMark
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.infrastructure.records.database import Within
from visual_memory.services.review.claim_items import Claimant

router = APIRouter(prefix="/v1/review", tags=["review"], route_class=AuthorizedRoute)

Kind = Annotated[ReviewKind, Path(description=KIND, examples=["image"])]
ItemId = Annotated[
    str, Path(min_length=1, max_length=300, description="the `id` of the item, as the list has it", examples=["cat-17"])
]


@router.get("", operation_id="list_review_items", summary="List what is worth a look")
@requires_scope(Scope.READ)
def list_review_items(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    kind: Annotated[ReviewKind | None, Query(description="only items of this kind", examples=["decision"])] = None,
    include_reviewed: Annotated[
        bool, Query(description="whether to list items that were looked at too", examples=[True])
    ] = False,
) -> Page[ReviewItem]:
    """List what is worth a look: doubted images, suspects, and decisions that are unknown or close.

    The highest score comes first. Where thousands of images were looked at, a page may end before its `limit`;
    `has_more` tells whether there is a next one.
    """
    return service.review.list(caller.tenant, asked, kind, reviewed=include_reviewed)


@router.post("/claims", operation_id="claim_review_items", summary="Hold items for a minute")
@requires_scope(Scope.READ)
def claim_review_items(caller: CallerDep, service: ServiceDep, request: ReviewClaim) -> Page[ReviewItem]:
    """Hold items for 60 seconds for the key of the request, so that two people do not review the same.

    The answer has the items that the key holds now; those that others hold are left out. Sent again, it holds them for
    another 60 seconds.
    """
    claimant, claims = Claimant(caller.key.id, caller.name), service.review.claims
    if request.items is not None:
        return Page.whole(claims.named(caller.tenant, claimant, request.items))
    return Page.whole(claims.next(caller.tenant, claimant, request.limit or 0, request.kind))


@router.delete("/claims", status_code=204, operation_id="release_review_claims", summary="Release held items")
@requires_scope(Scope.READ)
def release_review_claims(caller: CallerDep, service: ServiceDep) -> None:
    """Release all items that the key of the request holds."""
    service.review.claims.release(caller.tenant, caller.key.id)


@router.put("/{kind}/{item_id}", operation_id="mark_reviewed", summary="Mark an item as looked at")
@requires_scope(Scope.REMEMBER)
def mark_reviewed(caller: CallerDep, service: ServiceDep, kind: Kind, item_id: ItemId) -> ReviewMark:
    """Mark an item as looked at by the key of the request; its claim ends. Any image or decision can be marked.

    The mark of an image or a suspect counts until its picture or labels change, and that of an image until the label
    check does something else to it.
    """
    within = _audited(caller, "review.mark", kind)
    return service.review.marks.mark(caller.tenant, ItemName(kind=kind, id=item_id), caller.name, within)


@router.delete("/{kind}/{item_id}", status_code=204, operation_id="unmark_reviewed", summary="Take a mark back")
@requires_scope(Scope.REMEMBER)
def unmark_reviewed(caller: CallerDep, service: ServiceDep, kind: Kind, item_id: ItemId) -> None:
    """Take the mark of an item back; also answers 204 where it has none."""
    within = _audited(caller, "review.unmark", kind)
    service.review.marks.unmark(caller.tenant, ItemName(kind=kind, id=item_id), within)


def _audited(caller: Caller, action: str, kind: ReviewKind) -> Within:
    """Write the audit log entry of a mark: it names the decision, and nothing of an image."""
    if kind is ReviewKind.DECISION:
        return caller.audit_entry(action, "decision")
    return caller.audit_entry(action, None, images=1)
