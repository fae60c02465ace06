"""The audit log: who did what, without what it was done to."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class AuditEntry(BaseModel):
    """One deed.

    Attributes:
        by: the name of the key, or ``command line``.
        key: the key's id; null on the command line.
        request: the id of the request, as ``X-Request-Id`` answered it.
        action: ``accept``, ``amend``, ``read``, ``remove``, ``judge``, ``mute``, ``unmute``, ``relabel``,
            ``decisions.delete``, ``evaluations.request``, ``evaluations.add``, ``evaluations.start``,
            ``evaluations.delete``, ``intake.users.add``, ``intake.users.remove``, ``intake.dead.replay``,
            ``intake.dead.drop``, ``keys.make``, ``keys.revoke``, ``keys.rotate``, ``compact``, ``verify-removals``,
            ``backup``, ``restore``,
            ``tenants.end``; the last five are of the tenant ``*``, everybody. ``export`` and ``read`` of a
            subject are found by it.
        outcome: ``done``, ``running`` (or ended by a crash), or the code of the error.
        images: how many were sent, looked at, changed or removed.
        removal: the id of the removal, which has its own record.
        job: the id of the job that was begun.
        evaluation: the id of the evaluation that was asked for, added to, begun or deleted.
        decision: the id of the stored decision that was deleted.
        about_key: the id of the key that was made, revoked or rotated.
        intake_user: the name of the user of the intake's Redis that was made or removed.
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
