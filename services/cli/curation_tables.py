"""What people see of a judged memory: its classes and its suspects."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from visual_memory.schemas.judgement import JudgementStatus, Suspect
from visual_memory.schemas.labels import LabelCount
from visual_memory.services.cli.tables import console

MOST_CLASSES = 10


def judgement(status: JudgementStatus) -> None:
    """The judgement that counts, in a few lines."""
    found = status.current
    if found is None:
        console.print("not judged" + (f"; a job is {status.job.state}" if status.job else ""))
        return
    console.print(
        f"{found.images} images judged at {found.made_at:%Y-%m-%d %H:%M:%S} UTC by {found.k} neighbours each"
        + ("; the memory was changed since" if status.stale else "")
    )
    console.print("suspects: " + ", ".join(f"{number} {kind}" for kind, number in found.suspects.items()))
    table = Table("class", "images", "accuracy", "taken for", box=None, padding=(0, 2))
    for each in found.classes[:MOST_CLASSES]:
        table.add_row(escape(each.label), str(each.images), f"{each.accuracy:.1%}", _confusions(each.confused_with))
    console.print(table)
    if len(found.classes) > MOST_CLASSES:
        console.print(f"  ... and {len(found.classes) - MOST_CLASSES} more, which do better")


def suspects(found: Sequence[Suspect]) -> None:
    """Suspects with their reasons."""
    table = Table("kind", "score", "image", "labels", "reason", box=None, padding=(0, 2))
    for each in found:
        own = escape(", ".join(each.labels))
        table.add_row(each.suspicion, f"{each.score:.3f}", escape(each.image_id), own, escape(each.reason))
    console.print(table if found else "nothing is suspicious")


def labels(found: Sequence[LabelCount], thin: int) -> None:
    """Every class with how it does."""
    table = Table("class", "images", "accuracy", "taken for", "", box=None, padding=(0, 2))
    for each in found:
        accuracy = "not judged" if each.accuracy is None else f"{each.accuracy:.1%}"
        confusions = _confusions(each.confused_with or {})
        table.add_row(escape(each.label), str(each.images), accuracy, confusions, "thin" if each.images < thin else "")
    console.print(table)


def _confusions(taken_for: Mapping[str, int]) -> str:
    return escape(", ".join(f"{label} {number}" for label, number in taken_for.items()))
