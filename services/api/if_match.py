"""Parse conditions on ETags.

With ``If-Match`` a client changes an image only if it is as the client last saw it; with ``If-None-Match`` it reads
something only if it has changed since.
"""

import re
from typing import Annotated

from fastapi import Depends, Header

from visual_memory.schemas.errors import InvalidHeader
from visual_memory.schemas.fault import Fault
from visual_memory.schemas.validation_faults import error_of_faults

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_TAGS = re.compile(rf"\s*{_TAG.pattern}(\s*,\s*{_TAG.pattern})*\s*")


def expected_etags(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="the last seen ETag of the image, or `*`",
            examples=['"2-20260131T120000000000"'],
        ),
    ] = None,
) -> frozenset[str] | None:
    """Return the ETags of which an image must have one; None: any.

    Raises:
        InvalidHeader: the header is not of this form.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    if not _TAGS.fullmatch(if_match):
        fault = Fault(header="If-Match", code="wrong_form", detail="send the ETag of an image, with its quotes, or *")
        raise error_of_faults(InvalidHeader, [fault])
    return frozenset(tag for weak, tag in _TAG.findall(if_match) if not weak)


def is_current(etag: str, if_none_match: str | None) -> bool:
    """Return whether a client that sent this header has what the ETag identifies; weak ETags count too."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in {tag for _, tag in _TAG.findall(if_none_match)}


EtagsDep = Annotated[frozenset[str] | None, Depends(expected_etags)]
