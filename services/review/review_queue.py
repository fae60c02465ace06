"""The review queue as a whole: list it, mark its items, claim them."""

from dataclasses import dataclass

from visual_memory.services.review.claim_items import ClaimItems
from visual_memory.services.review.list_review import ListReview
from visual_memory.services.review.mark_reviewed import MarkReviewed


@dataclass(frozen=True)
class Review:
    """The use cases of the review queue.

    Attributes:
        list: lists it.
        marks: marks items as looked at.
        claims: claims items.
    """

    list: ListReview
    marks: MarkReviewed
    claims: ClaimItems
