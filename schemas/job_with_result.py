"""A background job with its request and its result."""

from pydantic import Field

from visual_memory.schemas.background_job import Job
from visual_memory.schemas.evaluation_request import EvaluationSummary
from visual_memory.schemas.explanation import Counterfactual, Influence


class JobWithResult(Job):
    """A job; once it is done, with its result or the route of it. A removal deletes what images were part of."""

    decision: str | None = Field(
        default=None,
        description="of a counterfactual: the id of the stored decision; else null",
        examples=["20260503101500123456-5f0c2a9b"],
    )
    last: int | None = Field(
        default=None,
        description="of an influence: the number of the latest stored decisions that are read; else null",
        examples=[1000],
    )
    result: Counterfactual | Influence | EvaluationSummary | None = Field(
        default=None,
        description="the result of a counterfactual, an influence or an evaluation, once the job is done; else null",
    )
    result_url: str | None = Field(
        default=None,
        description="the route of the whole result, once the job is done: the report of an evaluation, the judgement "
        "of the memory; null where `result` is all of it",
        examples=["/v1/evaluations/0b9c8f3e-6a55-4a8e-9d4c-2f3f5f0f6a10/report"],
    )
