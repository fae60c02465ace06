"""The decoder process: gives up its rights, then decodes the pictures that arrive on its socket.

It has no settings, no secrets, and no libraries but Pillow, Pillow's HEIC reader and numpy. Without its rights it
cannot open, change or delete a file, open a socket, or start, signal or inspect another process, and its memory is
limited to what pictures within the limits need; this holds even if a picture makes a codec run code. It ends with its
parent process.
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
from PIL import (  # noqa: F401 - Pillow imports them on first use, when files can no longer be opened
    ImageCms,
    ImageColor,
    ImagePalette,
    MpoImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.file_formats import heif  # noqa: F401 - as above; it registers its readers
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, decode_with_thumbnail, thumbnail
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.decoding.sandbox import linux_privileges
from visual_memory.services.decoding.sandbox.landlock import forbid_files
from visual_memory.services.decoding.sandbox.sandbox_protocol import Header, receive, send
from visual_memory.services.decoding.sandbox.seccomp import forbid_system_calls
from visual_memory.services.infrastructure.processes.prctl import end_with_parent, forbid_tracing

ZEROED_LIMITS = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)


def serve() -> None:
    """Answer requests on the socket that is standard input until it is closed; the first argument is configuration."""
    configuration = json.loads(sys.argv[1])
    limits = PictureLimits(**configuration["limits"])
    module, name = configuration["work"].split(":")
    handler = getattr(import_module(module), name)
    PIL.Image.preinit()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent handles them and closes the socket
    with socket.socket(fileno=sys.stdin.fileno()) as channel:
        protections = _give_up_rights(configuration["parent"], configuration["memory"])
        send(channel, {"ready": True, "protections": protections})
        while True:
            try:
                request, picture = receive(channel, limits.max_bytes)
            except EOFError:
                return
            number = request.pop("number")
            try:
                header, body = handler(request, bytes(picture), limits)
            except VisualMemoryError as error:
                header, body = {"error": error.code, "message": error.message}, b""
            send(channel, {**header, "number": number}, body)


def handle_request(request: Header, picture: bytes, limits: PictureLimits) -> tuple[dict[str, Any], bytes]:
    """Decode a picture or make a thumbnail: header and body of the answer.

    Args:
        request: ``do``: ``decode`` with a crop as ``view``, whose pixels are returned if there are at most ``most``
            bytes of them, followed by a thumbnail if its longest side is given as ``side``; or ``thumbnail`` with that
            ``side``. The answer's ``thumbnail`` is the number of bytes of the thumbnail.
        picture: the bytes of its file.
        limits: the largest picture that is accepted.

    Raises:
        VisualMemoryError: as `decode`.
    """
    if request["do"] == "thumbnail":
        return {}, thumbnail(picture, request["side"], limits)
    crop, side = PreprocessingCrop(**request["view"]), request.get("side")
    decoded, small = (
        decode_with_thumbnail(picture, limits, crop, side) if side else (decode(picture, limits, crop), b"")
    )
    fits = 3 * decoded.width * decoded.height <= request["most"]
    return {"size": decoded.size, "thumbnail": len(small)}, (decoded.tobytes() if fits else b"") + small


def _give_up_rights(parent: int, memory: int) -> dict[str, bool]:
    """Give up every right that decoding does not need, and limit the memory to `memory` bytes above the present.

    Returns:
        The protections against code that a picture might run, and whether this system has each.
    """
    protections = {
        "own user namespace": linux_privileges.enter_new_user_namespace(),
        "no capabilities": linux_privileges.drop_capabilities(),
        "no new privileges": linux_privileges.forbid_new_privileges(),
        "memory closed to others": forbid_tracing(),
    }
    end_with_parent(parent, signal.SIGKILL)  # last of these, because they might undo it
    if sys.platform == "linux":  # other systems do not limit the address space, or count it differently
        limit = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with Path(os.devnull).open("w") as devnull:
        os.dup2(devnull.fileno(), sys.stderr.fileno())  # the codecs' messages do not belong in our log
    protections["no files (Landlock)"] = forbid_files()
    for each in ZEROED_LIMITS:
        resource.setrlimit(each, (0, 0))
    protections["no system calls (seccomp)"] = forbid_system_calls()
    if not protections["no system calls (seccomp)"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # counts threads too, and has no effect on root
    return protections


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    serve()
