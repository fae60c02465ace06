"""The page ``/docs/errors``: what every code of an error means, from the classes of errors."""

import html

from visual_memory.schemas.errors import VisualMemoryError, errors_by_code
from visual_memory.services.api.listed_errors import about

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_STYLE = (
    "body{font-family:sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;line-height:1.5}"
    "section:target{background:#8883}code{font-size:1rem}"
)


def errors_page() -> str:
    """Render the page; it needs no script and no other file. The type of an error answer leads to its section."""
    kinds = sorted(errors_by_code().values(), key=lambda kind: (kind.status, kind.code))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Errors of the Visual Memory API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        "<h1>Errors</h1><p>Every error is answered as <code>application/problem+json</code> (RFC 9457). Programs"
        " decide by <code>code</code>; new codes may be added, so a program treats one that it does not know as any"
        " error of its status. <code>errors</code> lists the faults of the request with their places.</p>"
        f"{''.join(map(_section, kinds))}</body></html>\n"
    )


def _section(kind: type[VisualMemoryError]) -> str:
    wait = "" if kind.retry_after is None else " The header <code>Retry-After</code> tells when to send it again."
    return (
        f'<section id="{kind.code}"><h2>{kind.status} {html.escape(kind.title)}</h2>'
        f"<p><code>{kind.code}</code>: {html.escape(about(kind)).replace('`', '')}{wait}</p></section>"
    )
