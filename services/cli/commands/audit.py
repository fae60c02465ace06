"""Print the audit log of the key's tenant."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.first_items import first_items
from visual_memory.services.cli.shared_options import DEFAULT_URL, AsJson, Key, Url, connect, print_json

if TYPE_CHECKING:
    from visual_memory.schemas.audit_entry import AuditEntry


def audit(
    limit: Annotated[int, typer.Option(help="How many entries, the latest first.", min=1)] = 100,
    subject: Annotated[str | None, typer.Option(help="Only who looked at this subject.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what in the key's tenant: sent, viewed, changed and removed images, and changes of keys."""
    with exit_on_error(), connect(url, key) as client:
        lines = list(first_items(client.audit, limit, subject))
    if as_json:
        for line in lines:
            print_json(line.model_dump(mode="json", exclude_none=True))
    else:
        _print_lines(lines)


def _print_lines(lines: "Sequence[AuditEntry]") -> None:
    from visual_memory.services.cli.terminal_output import console

    for line in lines:
        names = ("images", "removal", "job", "evaluation", "decision")
        fields = {name: getattr(line, name) for name in names} | {"key": line.about_key}
        details = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
        who = f"{line.by} ({line.key})" if line.key else line.by
        console.print(f"{line.at:%Y-%m-%d %H:%M:%S}  {who}  {line.action}  {line.outcome}  {details}", markup=False)
