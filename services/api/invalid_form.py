"""Say in sentences of this service why a form cannot be read."""

import re

from starlette.exceptions import HTTPException

from visual_memory.schemas.errors import InvalidForm

_SENTENCES = (
    (r"Too many files\D*(\d+)", "the form has more than {} files: send them in several requests"),
    (r"Too many fields\D*(\d+)", "the form has more than {} parts that are no files: send fewer"),
    (r"(?:Field|Part) exceeded\D*(\d+)", "a part of the form that is no file is over {} KiB: send less in it"),
    (r"Missing boundary", "the Content-Type of the form names no boundary: multipart/form-data; boundary=..."),
    (r"The Content-Disposition", 'a part of the form has no name: Content-Disposition: form-data; name="..."'),
)
"""Sentences by the beginning of what the library says, with its number."""
_OTHERWISE = "the form cannot be read: send multipart/form-data, its parts separated by the boundary"


def invalid_form(error: HTTPException) -> InvalidForm:
    """The error for a form that the framework cannot read."""
    for beginning, text in _SENTENCES:
        if found := re.match(beginning, str(error.detail)):
            return InvalidForm(text.format(*found.groups()))
    return InvalidForm(_OTHERWISE)
