"""The Markdown table of all settings in ``docs/settings.md``."""

from pydantic.fields import FieldInfo

from visual_memory.services.settings.all_settings import Settings
from visual_memory.services.settings.settings_section import PREFIX, SettingsSection


def settings_table() -> str:
    """Return a Markdown table with a row for every setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, SettingsSection):
            rows += [_row(f"{name}__{inner}", each) for inner, each in section.model_fields.items()]
        else:
            rows.append(_row(name, field))
    return "\n".join(rows)


def _row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = "" if default in (None, {}, []) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |"
