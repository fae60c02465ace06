"""From settings to an encoder. The heavy libraries are imported when one is loaded, not before."""

from typing import TYPE_CHECKING

from services.perception.encoder import Encoder, EncoderUnusable
from services.settings import EncoderSettings

if TYPE_CHECKING:
    from services.perception.network import Network, Precision

BUILT_IN = "efficientnet-lite0"
AGREES_IN_BFLOAT16 = {BUILT_IN}
"""Encoders whose vectors in bfloat16 have a cosine of 0.999 or more to those in float32, so that machines that compute
in either may share a collection: similarities to one neighbour differ by less than 0.09 even if all errors point the
same way. The least over 400 photographs, by ``python -m benchmarks.agreement NAME``: efficientnet-lite0 0.9995; over
the same ones blurred 0.9992, and with a tenth of their contrast 0.9987.
"""
BATCH_SIZE = {"cpu": 8, "cuda": 64}
"""Most pictures encoded at once. 8 keep a core busy; with more of them callers would wait for each other longer."""


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Load the encoder that the settings name.

    Args:
        settings: name, device, pooling, precision, batch size and threads; the threads hold for the whole process.

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
        return NetworkEncoder(
            network, network.build(_precision(settings)), settings.batch_size or BATCH_SIZE[device.type]
        )
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


def _precision(settings: EncoderSettings) -> "Precision":
    """As the settings say, else bfloat16 where the encoder agrees in it and the processor computes in it."""
    if settings.precision != "auto":
        return settings.precision
    if settings.name in AGREES_IN_BFLOAT16 and settings.device == "cpu" and has_bfloat16():
        return "bfloat16"
    return "float32"


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; without them it is slower than float32."""
    import torch

    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
