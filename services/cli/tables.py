"""What people see: progress bars and tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from visual_memory.schemas.api_key import Key
from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.classify_options import MAX_TIMES_K, ClassifyOptions, Prune
from visual_memory.schemas.decision import Decision, Rerank
from visual_memory.schemas.evaluation_results import Evaluation
from visual_memory.schemas.labels import LabelCount
from visual_memory.schemas.removal import Removal, RemovalPreview
from visual_memory.services.client.import_pictures import Outcome

MOST_NAMED = 10
console = Console()


def progress(*, quiet: bool) -> Progress:
    """A progress bar with counts and times; on standard error, so that output can be piped."""
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


@contextmanager
def stages(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each stage of a work: to be told of the stage, how much of it is done, and out of how much."""
    bars = progress(quiet=quiet)
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, done: int, total: int) -> None:
        bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield tell
        for task in bars.tasks:
            bars.update(task.id, completed=task.total)  # some are told of only as they begin
    finally:
        if tasks:  # else it would print an empty line
            bars.stop()


def outcome(result: Outcome) -> None:
    """What became of the pictures that were sent."""
    console.print(f"{result.sent} sent, {result.remembered} remembered")
    if result.other_labels:
        console.print(f"  {result.other_labels} are there with other labels, and keep them (see --known-labels)")
    for what, why in (("refused", result.refused), ("rejected", result.rejected)):
        for name, reason in list(why.items())[:MOST_NAMED]:
            console.print(f"  {what} {name}: {reason}", markup=False, highlight=False)
        if len(why) > MOST_NAMED:
            console.print(f"  ... and {len(why) - MOST_NAMED} more {what}")


def evaluation(found: Evaluation, folder: Path) -> None:
    """What an evaluation found, in short, and where the report is."""
    ks = [k for k in (1, 10, 50, 100) if k <= len(found.hit_rate)]
    table = Table("vote", *(f"k = {k}" for k in ks), "best")
    for curve in found.curves:
        if curve.prune == Prune.NONE:
            values = [curve.accuracy[k - 1] for k in ks]
            table.add_row(curve.vote, *(f"{value:.1%}" for value in [*values, max(curve.accuracy)]))
    console.print(table)
    console.print(f"{found.accuracy:.1%} right by the {found.options.vote} vote of {found.k}; {found.queries} asked")
    if found.recall and found.fast_recall:
        k, part = max(found.recall.items())
        console.print(f"the search finds {part:.1%} of the {k} nearest, the fast one {found.fast_recall[k]:.1%}")
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def decision(name: Path | str, result: Decision, options: ClassifyOptions) -> None:
    """A decision with the classes that got votes and the neighbours that gave them."""
    said = f"no label: {result.reason}" if result.label is None else result.label
    shares = ", ".join(f"{each.label} {each.share:.0%}" for each in result.shares[:5])
    console.print(f"{name}: {said}" + f"  ({shares}; {result.voters} voted)" * bool(result.voters), markup=False)
    if result.novelty is not None and result.novelty.percentile is not None:
        further = f"further than {result.novelty.percentile:.1f} % of the memory's own images"
        console.print(f"  mean distance to its neighbours {result.novelty.distance:.4f}: {further}", markup=False)
    if result.prediction_set is not None:
        among = ", ".join(result.prediction_set) + " (all that got a vote: the memory cannot tell more)" * (
            result.set_share == 0
        )
        console.print(
            f"  if it is like the memory's images, {options.coverage:.1%} sure to be one of: {among}",
            markup=False,
        )
    if result.truncated:
        console.print(
            f"  only {MAX_TIMES_K * options.k} images were looked at: too many are equally near, copies of each other,"
            " or left out by pruning; which of them voted may depend on chance",
            markup=False,
        )
    if result.rerank is not None:
        console.print(f"  {_reranked(result.rerank)}", markup=False, highlight=False)
    if not result.neighbours:
        return
    table = Table("rank", "similarity", "labels", "reliability", "weight", "share", "image", box=None, padding=(0, 2))
    for each in result.neighbours:
        table.add_row(
            str(each.rank),
            f"{each.similarity:.4f}",
            ", ".join(each.labels),
            f"{each.reliability:.2f}",
            f"{each.weight:.4f}",
            f"{each.share:.1%}",
            each.image_id,
        )
    console.print(table)


def preview(result: RemovalPreview) -> None:
    """What a removal would cover."""
    console.print(f"{result.images} images would go: {_by_state(result.by_state)}")
    for image_id in result.sample:
        console.print(f"  {image_id}", markup=False, highlight=False)
    if result.images > len(result.sample):
        console.print(f"  ... and {result.images - len(result.sample)} more")


def receipt(removal: Removal) -> None:
    """A removal's receipt."""
    table = Table(title=f"Receipt {removal.id}", show_header=False, title_justify="left")
    rows = {
        "status": removal.status,
        "filter": "everything" if removal.everything else _filter(removal),
        "reason": removal.reason,
        "requested": f"{removal.requested_at:%Y-%m-%d %H:%M:%S} UTC by {removal.requested_by}",
        "images removed": f"{removal.images}: {_by_state(removal.by_state)}",
        "pictures deleted": str(removal.pictures),
        "entries taken from the intake": str(removal.queued),
        "blocked from now on": "yes" if removal.block else "no",
        "verified none left": f"{removal.verified_at:%Y-%m-%d %H:%M:%S} UTC" if removal.verified_at else "not yet",
        "erased from the disk": _erasure(removal),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _erasure(removal: Removal) -> str:
    if removal.erasure is None:
        return "not yet"
    done = f"{removal.erasure.at:%Y-%m-%d %H:%M:%S} UTC"
    return done if removal.erasure.erased else f"asked for {done}: {removal.erasure.note}"


def _filter(removal: Removal) -> str:
    return "not kept any more" if removal.filter is None else removal.filter.model_dump_json()


def status(readiness: Mapping[str, Any], labels: Sequence[LabelCount]) -> None:
    """Every part, and the labels with their counts."""
    for name, part in readiness["parts"].items():
        console.print(f"{'ok  ' if part['ok'] else 'DOWN'}  {name}  {part['detail']}", markup=False)
    console.print(f"{len(labels)} labels")
    for each in labels[:MOST_NAMED]:
        console.print(f"  {each.images:>8}  {each.label}", markup=False)


def keys(found: Sequence[Key]) -> None:
    """Keys, without their secrets."""
    columns = ("name", "tenant", "scopes", "a minute", "made", "revoked")
    table = Table(Column("id", no_wrap=True), *columns, box=None, padding=(0, 2))
    for key in found:
        limits = (f"{key.requests_per_minute or 'any'} requests", f"{key.bytes_per_minute or 'any'} bytes")
        revoked = f"{key.revoked_at:%Y-%m-%d}" if key.revoked_at else ""
        made = f"{key.created_at:%Y-%m-%d}"
        table.add_row(key.id, escape(key.name), key.tenant, ", ".join(key.scopes), ", ".join(limits), made, revoked)
    console.print(table)


def audit(lines: Sequence[AuditEntry]) -> None:
    """Who did what, a line each."""
    for line in lines:
        names = ("images", "removal", "job", "evaluation", "decision")
        about = {name: getattr(line, name) for name in names} | {"key": line.about_key}
        said = ", ".join(f"{name} {value}" for name, value in about.items() if value is not None)
        who = f"{line.by} ({line.key})" if line.key else line.by
        console.print(f"{line.at:%Y-%m-%d %H:%M:%S}  {who}  {line.action}  {line.outcome}  {said}", markup=False)


def _reranked(result: Rerank) -> str:
    if result.fallback is not None:
        return f"not re-ranked: {result.fallback}"
    return f"re-ranked by {result.model}{' (at hand)' if result.cached else ''}; the vote was for {result.voted}"


def _by_state(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
