"""Decide which keys see a job, and which may cancel it."""

from visual_memory.schemas.api_key import Key, Scope
from visual_memory.schemas.background_job import Job, JobKind
from visual_memory.schemas.errors import Forbidden, NotFound

FOLLOWED_BY = {
    JobKind.EVALUATION: frozenset({Scope.CLASSIFY, Scope.READ}),
    JobKind.JUDGEMENT: frozenset({Scope.REMEMBER, Scope.CLASSIFY, Scope.READ}),
    JobKind.COUNTERFACTUAL: frozenset({Scope.READ}),
    JobKind.INFLUENCE: frozenset({Scope.READ}),
}
"""The scopes of which any suffices to see a job of a kind: those that start it, or show its result."""
STARTED_BY = {
    JobKind.EVALUATION: Scope.CLASSIFY,
    JobKind.JUDGEMENT: Scope.REMEMBER,
    JobKind.COUNTERFACTUAL: Scope.READ,
    JobKind.INFLUENCE: Scope.READ,
}
"""The scope that starts a job of a kind, and cancels it."""
ANY_FOLLOWER = frozenset[Scope]().union(*FOLLOWED_BY.values())


def visible_kinds(key: Key) -> list[JobKind]:
    """The kinds of jobs that a key sees."""
    return [kind for kind in JobKind if any(map(key.may, FOLLOWED_BY[kind]))]


def check_visible(key: Key, job: Job) -> None:
    """Refuse to show a job of a kind that the key does not see.

    Raises:
        NotFound: it is of such a kind.
    """
    if job.kind not in visible_kinds(key):
        raise NotFound(f"there is no job {job.id!r}")


def check_may_cancel(key: Key, caller: str, job: Job) -> None:
    """Refuse to cancel a job that the key may not cancel.

    An evaluation of another key may be cancelled by keys that may delete it.

    Args:
        key: of the request.
        caller: the sender as records name it.
        job: which is to be cancelled.

    Raises:
        Forbidden: the key has not the scope.
    """
    needed = STARTED_BY[job.kind]
    if job.kind is JobKind.EVALUATION and job.requested_by != caller:
        needed = Scope.REMOVE
    if not key.may(needed):
        granted = ", ".join(key.scopes)
        raise Forbidden(f"to cancel this {job.kind} needs a key with the scope {needed}; this one has {granted}")
