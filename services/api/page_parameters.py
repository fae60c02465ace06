"""The query parameters of lists."""

from typing import Annotated

from fastapi import Depends, Query

from visual_memory.schemas.page import DEFAULT_LIMIT, MAX_LIMIT, PageRequest


async def page_request(
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="the maximum number of items of the page", examples=[50])
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None,
        Query(
            description="the `next_cursor` of the page before, sent with the same other parameters; without it, the"
            " first page is returned",
            examples=["AYf0lW1bMTcsImNhdCJd"],
        ),
    ] = None,
    total: Annotated[
        bool,
        Query(description="whether to count the items of all pages; the answer then has `total`", examples=[True]),
    ] = False,
) -> PageRequest:
    """Read the query parameters of a list; a coroutine, so that it runs on the event loop."""
    return PageRequest(limit, cursor, total)


PageDep = Annotated[PageRequest, Depends(page_request)]
"""The page that a request asks for."""
