"""What people see of a memory's encoders."""

from typing import Any

from visual_memory.services.cli.tables import console

STATES = {"active": "classifies", "before": "classified before", "added": "added", "dropping": "being dropped"}


def status(each: dict[str, Any]) -> None:
    """One encoder, in sentences."""
    spec, counts = each["spec"], each["counts"]
    total = counts["filled"] + counts["left"]
    made = f"{spec['dimension']} numbers, preprocessing {spec['preprocessing']}"
    console.print(f"{spec['name']}: {_state(each)} ({made})", markup=False, highlight=False, soft_wrap=True)
    console.print(f"  {counts['filled']} of {total} images have its vector, {counts['left']} are left")
    if counts["failed"] or counts["vectors_only"]:
        console.print(f"  {counts['failed']} could not be encoded, {counts['vectors_only']} came as vectors of another")
    if counts["left"] and not each["fill"]["paused"] and each["state"] != "dropping":
        rate = (
            f"{each['images_per_second']:g} a second, {_time_left(each)}"
            if each["images_per_second"]
            else "none just now; if that goes on, the worker's log says why"
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
