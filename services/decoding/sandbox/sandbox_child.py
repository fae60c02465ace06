"""What runs in a decoder's process: it reads pictures from its one channel, and may do nothing else.

It holds no setting, no secret and no library but Pillow, its reader of HEIC, and numpy. Once it has given up its rights
it can open, change or delete no file, open no socket, start, signal and look into no other process, and takes no more
memory than pictures within the limits need, even where a picture makes a codec run code of its own. It ends with its
parent, however that ends.
"""

import json
import os
import resource
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import PIL.Image
from PIL import (  # noqa: F401 - Pillow imports them when it first needs them, and then nothing can be opened any more
    ImageCms,
    ImageColor,
    ImagePalette,
    MpoImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.file_formats import heif  # noqa: F401 - as above; it registers its readers
from visual_memory.services.decoding.pillow_decode import PictureLimits, decode, thumbnail
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.decoding.sandbox import linux_privileges
from visual_memory.services.decoding.sandbox.landlock import forbid_files
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header, receive, send
from visual_memory.services.decoding.sandbox.seccomp import forbid_system_calls
from visual_memory.services.infrastructure.processes.prctl import end_with_parent, forbid_tracing

ZEROED_LIMITS = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)


def serve() -> None:
    """Answer on the channel that is standard input until it is closed, as the first argument says (JSON)."""
    told = json.loads(sys.argv[1])
    limits = PictureLimits(**told["limits"])
    module, name = told["work"].split(":")
    answer = getattr(import_module(module), name)
    PIL.Image.preinit()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the parent, which closes the channel
    with socket.socket(fileno=sys.stdin.fileno()) as channel:
        got = _confine(told["parent"], told["memory"])
        send(channel, {"ready": True, "protections": got})
        while True:
            try:
                asked, picture = receive(channel, limits.max_bytes)
            except EOFError:
                return
            number = asked.pop("number")
            try:
                head, body = answer(asked, bytes(picture), limits)
            except VisualMemoryError as error:
                head, body = {"error": error.code, "message": error.message}, b""
            send(channel, {**head, "number": number}, body)


def handle_request(asked: Header, picture: bytes, limits: PictureLimits) -> tuple[dict[str, Any], bytes]:
    """Decode or make a thumbnail: the head and the body of the answer.

    Args:
        asked: ``do``: decode (a ``view``; its pixels come back where they are at most ``most`` bytes) or
            thumbnail (of a longest side ``size``).
        picture: the bytes of its file.
        limits: the largest picture that is taken.

    Raises:
        VisualMemoryError: as `decode`.
    """
    if asked["do"] == "thumbnail":
        return {}, thumbnail(picture, asked["size"], limits)
    decoded = decode(picture, limits, PreprocessingCrop(**asked["view"]))
    wanted = 3 * decoded.width * decoded.height <= asked["most"]
    return {"size": decoded.size}, decoded.tobytes() if wanted else b""


def _confine(parent: int, memory: int) -> dict[str, bool]:
    """Give up every right that decoding does not need, and all but so many bytes of memory beyond the present.

    Returns:
        What protects the others from code that a picture might bring to run, and whether this system has it.
    """
    got = {
        "own user namespace": linux_privileges.enter_new_user_namespace(),
        "no capabilities": linux_privileges.drop_capabilities(),
        "no new privileges": linux_privileges.forbid_new_privileges(),
        "memory closed to others": forbid_tracing(),
    }
    end_with_parent(parent, signal.SIGKILL)  # after what might undo it
    if sys.platform == "linux":  # elsewhere address space is not counted, or not like this
        most = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # what the codecs have to say of a picture is no line of our log
    got["no files (Landlock)"] = forbid_files()
    for limit in ZEROED_LIMITS:
        resource.setrlimit(limit, (0, 0))
    got["no system calls (seccomp)"] = forbid_system_calls()
    if not got["no system calls (seccomp)"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # it counts threads too, and holds for nobody who is root
    return got


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    serve()
