"""From settings to an encoder. The heavy libraries are imported when one is loaded, not before."""

import fcntl
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from services.perception.encoder import Encoder, EncoderUnusable
from services.settings import EncoderSettings

if TYPE_CHECKING:
    from services.perception.choosing import Choice
    from services.perception.network import Forward, Network

BUILT_IN = "efficientnet-lite0"
ROOM = Path(__file__).parent


def load_encoder(settings: EncoderSettings, kept: Path | None = None) -> Encoder:
    """Load the encoder that the settings name.

    Args:
        settings: name, device, pooling, precision, batch size and threads; the threads hold for the whole process.
        kept: where what was measured on this machine is kept; processes that start at once measure one after the
            other, so that the first measures undisturbed and the others read. None: it is not kept.

    Returns:
        An encoder that has embedded its first picture. It is named after the model's hub name or its folder's last
        part, and after the pooling where that is not ``auto``.

    Raises:
        EncoderUnusable: there is no such model or device, or the model takes no pictures.
    """
    import torch

    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EncoderUnusable(
            f"encoder.device {settings.device}: PyTorch sees {torch.cuda.device_count()} such devices"
        )
    if settings.threads:  # else PyTorch's own choice, one per core
        torch.set_num_threads(settings.threads)
    from services.perception.network import NetworkEncoder

    try:
        network = _network(settings)
        choice, forward = _chosen(network, settings, kept)
        return NetworkEncoder(network, forward, choice.batch_size)
    except EncoderUnusable:
        raise
    except Exception as error:  # the libraries raise many kinds, and all mean this
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        named = f"encoder.name {settings.name!r} with pooling {settings.pooling}"
        raise EncoderUnusable(f"{named} cannot be loaded as an image model: {reason}") from error


def _network(settings: EncoderSettings) -> "Network":
    if settings.name == BUILT_IN:
        from services.perception.efficientnet import efficientnet

        return efficientnet(settings.device)
    from services.perception.pretrained import pretrained

    return pretrained(settings.name, settings.pooling, settings.device)


def _chosen(network: "Network", settings: EncoderSettings, kept: Path | None) -> "tuple[Choice, Forward]":
    """How the network is to work: as the settings say, else as was measured here before, else as is measured now."""
    from services.perception.choosing import choose

    if kept is None or (settings.precision != "auto" and settings.batch_size):
        return choose(network, settings.precision, settings.batch_size)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go of when the file is closed
        file.seek(0)
        measured, here = _read(file.read()), _here(network.name, settings)
        if here in measured:
            return measured[here], network.build(measured[here].precision)
        choice, forward = choose(network, settings.precision, settings.batch_size)
        file.truncate(0)
        json.dump({name: each.model_dump() for name, each in {**measured, here: choice}.items()}, file, indent=1)
        return choice, forward


def _read(text: str) -> "dict[str, Choice]":
    """What was measured, by `_here`; nothing where the file was not written to its end."""
    from services.perception.choosing import Choice

    try:
        return TypeAdapter(dict[str, Choice]).validate_json(text)
    except ValidationError:
        return {}


def _here(name: str, settings: EncoderSettings) -> str:
    """The encoder, all of this machine and of our code that its speed hangs on, and what was left to be measured."""
    import torch

    if settings.device == "cpu":
        cpus = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        model = next(
            (line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")), ""
        )
        chip = f"{model or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    else:
        chip = torch.cuda.get_device_name(settings.device)
    asked = f"precision {settings.precision}, batch size {settings.batch_size}"
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(ROOM.glob("*.py")))).hexdigest()[:8]
    versions = f"torch {torch.__version__}, our code {code}"
    return f"{name} on {settings.device}: {chip}, {torch.get_num_threads()} threads, {versions}; {asked}"
