"""Former names of settings, which work in this version with a warning."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic_settings import SettingsError

from visual_memory.services.settings.settings_section import PREFIX

RENAMED = {
    ("api", "max_held_bytes"): "max_bytes_in_flight",
    ("api", "max_requests"): "max_concurrent_requests",
    ("worker", "overdue_seconds"): "lease_seconds",
    ("curate", "seconds"): "judge_seconds",
    ("curate", "most_images"): "max_images",
    ("curate", "gate"): "label_check",
    ("curate", "gate_share"): "label_check_share",
}
"""New names by section and former name."""

log = logging.getLogger(__name__)


def use_new_names(*sources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Replace the former names of settings, and log a warning for each.

    Args:
        sources: what the environment and the file give, by section and name.

    Raises:
        SettingsError: a setting is given by both names, in one source or in two.
    """
    found = [
        {section: dict(values) if isinstance(values, Mapping) else values for section, values in source.items()}
        for source in sources
    ]
    for (section, former), new in RENAMED.items():
        given = [values for source in found if isinstance(values := source.get(section), dict)]
        using_former = [values for values in given if former in values]
        if not using_former:
            continue
        if any(new in values for values in given):
            raise SettingsError(
                f"{_name(section, former)} is now {_name(section, new)}, and both are set: remove the former"
            )
        for values in using_former:
            values[new] = values.pop(former)
        _warn(_name(section, former), _name(section, new))
    return found


@cache
def _warn(former: str, new: str) -> None:
    """Warn once in a process."""
    log.warning("%s is now %s: use the new name, as the next version refuses the former", former, new)


def _name(section: str, name: str) -> str:
    return f"{section}.{name} ({PREFIX}{section.upper()}__{name.upper()})"
