"""An entry of the audit log: who did what, without names of what it was done to."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class AuditEntry(BaseModel):
    """One recorded action.

    Attributes:
        by: the name of the key, or ``command line``.
        key: the key's id; null on the command line.
        request: the id of the request, as in the header ``X-Request-Id`` of its response.
        action: ``accept``, ``amend``, ``read``, ``remove``, ``judge``, ``mute``, ``unmute``, ``relabel``,
            ``decisions.delete``, ``evaluations.request``, ``evaluations.add``, ``evaluations.start``,
            ``evaluations.delete``, ``intake.users.add``, ``intake.users.remove``, ``intake.dead.replay``,
            ``intake.dead.drop``, ``keys.make``, ``keys.revoke``, ``keys.rotate``, ``compact``, ``verify-removals``,
            ``backup``, ``restore``,
            ``tenants.end``; the last five have the tenant ``*``, all tenants. ``export`` and ``read`` of a
            subject can be searched by the subject.
        outcome: ``done``, ``running`` (or interrupted by a crash), or the code of the error.
        images: the number of images that were sent, read, changed or removed.
        removal: the id of the removal.
        job: the id of the job that was started.
        evaluation: the id of the evaluation that was requested, extended, started or deleted.
        decision: the id of the deleted decision.
        about_key: the id of the key that was made, revoked or rotated.
        intake_user: the name of the user of the intake's Redis that was added or removed.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    tenant: str
    by: str
    key: str | None = None
    request: str | None = None
    action: str
    outcome: str = "done"
    images: int | None = None
    removal: str | None = None
    job: str | None = None
    evaluation: str | None = None
    decision: str | None = None
    about_key: str | None = None
    intake_user: str | None = None
