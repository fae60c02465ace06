"""What people see of a memory's encoders."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from services.cli.show import console

STATES = {"active": "classifies", "before": "classified before", "added": "added", "dropping": "being dropped"}


def table(found: Sequence[dict[str, Any]]) -> None:
    """Every encoder with its counts."""
    columns = ("state", "numbers", "preprocessing", "filled", "left", "failed", "vectors only", "a second", "time left")
    shown = Table(Column("name", no_wrap=True), *columns, box=None, padding=(0, 2))
    for each in found:
        spec, counts = each["spec"], each["counts"]
        given = (counts["filled"], counts["left"], counts["failed"], counts["vectors_only"])
        rate = f"{each['images_per_second']:g}" if each["images_per_second"] else ""
        made = (str(spec["dimension"]), str(spec["preprocessing"]))
        shown.add_row(escape(spec["name"]), _state(each), *made, *map(str, given), rate, _time_left(each))
    console.print(shown)


def status(each: dict[str, Any]) -> None:
    """One encoder, in sentences."""
    spec, counts = each["spec"], each["counts"]
    total = counts["filled"] + counts["left"]
    console.print(f"{spec['name']}: {_state(each)}", markup=False, highlight=False)
    console.print(f"  {counts['filled']} of {total} images have its vector, {counts['left']} are left")
    if counts["failed"] or counts["vectors_only"]:
        console.print(f"  {counts['failed']} could not be encoded, {counts['vectors_only']} came as vectors of another")
    if counts["left"] and not each["fill"]["paused"]:
        rate = (
            f"{each['images_per_second']:g} a second, {_time_left(each)}"
            if each["images_per_second"]
            else "none just now"
        )
        console.print(f"  filled with {each['fill']['share']:.0%} of the workers' time: {rate}")


def _state(each: dict[str, Any]) -> str:
    return f"{STATES[each['state']]}{', paused' * each['fill']['paused']}"


def _time_left(each: dict[str, Any]) -> str:
    seconds = each["seconds_left"]
    if seconds is None:
        return ""
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min {seconds % 60} s left"
