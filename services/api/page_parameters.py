"""The query parameters of lists."""

from typing import Annotated

from fastapi import Query

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000

LimitParameter = Annotated[
    int, Query(ge=1, le=MAX_LIMIT, description="the maximum number of items of the page", examples=[50])
]
CursorParameter = Annotated[
    str | None,
    Query(
        description="the `next_cursor` of the page before, sent with the same other parameters; without it, the first "
        "page is returned",
        examples=["AQGQ8vJvT2kVQ5u3"],
    ),
]
TotalParameter = Annotated[
    bool, Query(description="whether to count the items of all pages; the answer then has `total`", examples=[True])
]
