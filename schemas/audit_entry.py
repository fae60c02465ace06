"""An entry of the audit log: who did what, without names of what it was done to."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.page import is_none


class AuditEntry(BaseModel):
    """One recorded action; fields without a value are left out."""

    model_config = ConfigDict(frozen=True)

    at: datetime = Field(description="when it happened", examples=["2026-01-31T12:00:00Z"])
    tenant: str = Field(description="the tenant whose data it concerns", examples=["north"])
    by: str = Field(description="the name of the key, or `command line`", examples=["steward"])
    key: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the key's id; left out on the command line",
        examples=["9f86d081884c"],
    )
    request: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the request, as in the header `X-Request-Id` of its response",
        examples=["5b0e2a"],
    )
    action: str = Field(
        description=(
            "`accept`, `amend`, `read`, `remove`, `judge`, `mute`, `unmute`, `relabel`, `undo`, `decisions.delete`, "
            "`review.mark`, `review.unmark`, "
            "`evaluations.request`, `evaluations.add`, `evaluations.start`, `evaluations.delete`, `jobs.cancel`, "
            "`intake.users.add`, `intake.users.remove`, `intake.dead.replay`, `intake.dead.drop`, "
            "`keys.make`, `keys.revoke`, `keys.rotate`, `session.open`, `compact`, `verify-removals`, `backup`, "
            "`restore`, "
            "`tenants.end`; the last five have the tenant `*`, all tenants. `export` and `read` of a subject "
            "can be searched by the subject."
        ),
        examples=["remove"],
    )
    outcome: str = Field(
        default="done",
        description="`done`, `running` (or interrupted by a crash), or the code of the error",
        examples=["done"],
    )
    images: int | None = Field(
        default=None,
        exclude_if=is_none,
        description="the number of images that were sent, read, changed or removed",
        examples=[12],
    )
    removal: str | None = Field(
        default=None, exclude_if=is_none, description="the id of the removal", examples=["4f1c0a7b9d2e"]
    )
    job: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the job that was started or cancelled",
        examples=["4f1c0a7b9d2e"],
    )
    change: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the change that was made, as `GET /v1/changes` lists it",
        examples=["01936b3e-7a1c-7c3a-9d1e-2f4b6a8c0e12"],
    )
    evaluation: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the evaluation that was requested, extended, started or deleted",
        examples=["4f1c0a7b"],
    )
    decision: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the decision that was deleted or marked",
        examples=["0198c9d2-6a3e"],
    )
    about_key: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the id of the key that was made, revoked or rotated",
        examples=["9f86d081884c"],
    )
    intake_user: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="the name of the user of the intake's Redis that was added or removed",
        examples=["camera"],
    )
