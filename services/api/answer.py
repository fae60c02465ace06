"""An answer as its bytes, made in the thread that found it.

What a route returns otherwise, FastAPI checks in another thread and writes out on the event loop, where others wait.
"""

from fastapi import Response
from pydantic import BaseModel


def as_json(model: BaseModel) -> Response:
    """The answer of a route whose `response_model` this is of."""
    return Response(model.model_dump_json(), media_type="application/json")
