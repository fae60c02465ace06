"""Start every process that one machine needs, and supervise them."""

import typer

from visual_memory.services.cli.exit_codes import exit_on_error
from visual_memory.services.cli.local_data import local_settings


def up() -> None:
    """Start everything on this machine (API, worker, Redis, engine) and keep it running until Ctrl-C."""
    from visual_memory.services.bootstrap.wiring.wire_intake import intake_password
    from visual_memory.services.cli.commands.keys import login_link, make_first_key
    from visual_memory.services.infrastructure.processes.ready_message import send_ready
    from visual_memory.services.infrastructure.processes.supervisor import run

    settings = local_settings()
    url = f"http://{settings.api.host}:{settings.api.port}"

    def on_ready() -> None:
        typer.echo(f"ready at {url} (API documentation at {url}/docs); press Ctrl-C to stop", err=True)
        if link := login_link(settings, url):
            typer.echo(f"log in with a browser, once within an hour: {link}", err=True)
        send_ready()

    with exit_on_error():
        make_first_key(settings)
        typer.echo(f"starting; data and logs are in {settings.data.absolute()}", err=True)
        run(settings, intake_password(settings), on_ready)
