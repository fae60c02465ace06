"""What an intervention would change, shown before it is done."""

from collections.abc import Mapping

from visual_memory.schemas.errors import Forbidden, InvalidRequest
from visual_memory.schemas.explanation import PreviewRequest
from visual_memory.services.cli.tables import console
from visual_memory.services.client.http_client import Client

SHOWN = 5


def foretell(client: Client, intervention: Mapping[str, object]) -> None:
    """Which of the latest stored decisions would have another label; nothing where none is stored, or none may be seen.

    Args:
        client: of the service.
        intervention: `PreviewRequest` as a dictionary.
    """
    try:
        preview = client.preview_change(PreviewRequest.model_validate(intervention))
    except Forbidden:
        return
    except InvalidRequest as error:
        console.print(f"what it would change is not known: {error.message}", markup=False, highlight=False)
        return
    if not preview.decisions:
        return
    number = len(preview.changed) or "none"
    console.print(
        f"{number} of the last {preview.decisions} stored decisions would have another label", highlight=False
    )
    for each in preview.changed[:SHOWN]:
        line = f"  {each.id}: {each.after or 'no label'} instead of {each.before or 'no label'}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if len(preview.changed) > SHOWN:
        console.print(f"  ... and {len(preview.changed) - SHOWN} more", highlight=False)
