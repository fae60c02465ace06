"""From settings to an encoder. The heavy libraries are imported when one is loaded, not before."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visual_memory.schemas.encoder import EncoderIdentity, PrecisionClass
from visual_memory.schemas.errors import EncoderMismatch, VisualMemoryError
from visual_memory.services.decoding.preprocessing_crop import Preprocessing
from visual_memory.services.encoding.encoder_contract import Encoder, EncoderUnusable
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN, compute_fingerprint, model_folder
from visual_memory.services.settings import EncoderSettings

if TYPE_CHECKING:
    from visual_memory.services.encoding.torch_encoder import Precision, TorchNetwork

BFLOAT16_COMPATIBLE = {BUILT_IN}
"""Encoders whose vectors in bfloat16 have a cosine of 0.999 or more to those in float32, so that machines that compute
in either may share a collection: similarities to one neighbour differ by less than 0.09 even if all errors point the
same way. The least over 400 photographs, by ``python -m benchmarks.agreement NAME``: efficientnet-lite0 0.9995; over
the same ones blurred 0.9992, and with a tenth of their contrast 0.9987.
"""
BATCH_SIZE = {"cpu": 8, "cuda": 64}
"""Most pictures encoded at once. 8 keep a core busy; with more of them callers would wait for each other longer."""
MAX_NAME_LENGTH = 100
"""Characters of a model's name in that of its vectors: engines make a folder of it."""


def identify(settings: EncoderSettings, preprocessing: Preprocessing = 2) -> EncoderIdentity:
    """The encoder that the settings name, `BUILT_IN` where they name none; a model of the hub is fetched for it.

    Raises:
        EncoderUnusable: there is no such model.
    """
    model = settings.name or BUILT_IN
    if model == BUILT_IN:
        settings = settings.model_copy(update={"pooling": "auto"})  # it has one way alone
    elif Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().resolve())
    precision = _precision_class(settings)
    try:
        digest = compute_fingerprint(model, settings.pooling, precision, preprocessing)
    except VisualMemoryError:
        raise
    except Exception as error:
        raise _unusable(settings, error) from error
    base = legacy_name(settings)[:MAX_NAME_LENGTH].strip(".-") or "model"
    return EncoderIdentity(
        name=f"{base}-{digest[:12]}",
        model=model,
        pooling=settings.pooling,
        precision=precision,
        preprocessing=preprocessing,
        fingerprint=digest,
    )


def legacy_name(settings: EncoderSettings) -> str:
    """What the vectors of the encoder that the settings name were called before there were fingerprints."""
    model = settings.name or BUILT_IN
    if model == BUILT_IN:
        return BUILT_IN
    folder = Path(model).expanduser()
    named = folder.resolve().name if folder.is_dir() else model
    pooled = named if settings.pooling == "auto" else f"{named}-{settings.pooling}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", pooled)


def load_encoder(settings: EncoderSettings, identity: EncoderIdentity | None = None) -> Encoder:
    """Load an encoder.

    Args:
        settings: device, precision, batch size and threads; the threads hold for the whole process. Where the folder
            of `identity` is not on this machine or holds another model, its model is looked for where they name one.
        identity: which encoder, an `EncoderSpec` where a memory knows it; by default the one that the settings name.

    Returns:
        An encoder that has embedded its first picture, of the identity's name.

    Raises:
        EncoderUnusable: there is no such model or device, or the model takes no pictures.
        EncoderMismatch: the model's files are others than those of `identity`.
    """
    import torch

    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EncoderUnusable(
            f"encoder.device {settings.device}: PyTorch sees {torch.cuda.device_count()} such devices"
        )
    if settings.threads:  # else PyTorch's own choice, one per core
        torch.set_num_threads(settings.threads)
    from visual_memory.services.encoding.torch_encoder import TorchEncoder

    wanted = settings
    if identity:
        wanted = _located(settings, identity)
    identity = identity or identify(settings)
    try:
        network = replace(_network(wanted, identity), name=identity.name)
        return TorchEncoder(
            network, network.build(_precision(settings, identity)), settings.batch_size or BATCH_SIZE[device.type]
        )
    except VisualMemoryError:
        raise
    except Exception as error:  # the libraries raise many kinds, and all mean this
        raise _unusable(wanted, error) from error


def _located(settings: EncoderSettings, identity: EncoderIdentity) -> EncoderSettings:
    """The settings with the model whose files are the identity's: where it was, else where the settings name it."""
    absent: EncoderUnusable | None = None
    for model in dict.fromkeys((identity.model, settings.name or identity.model)):
        named = settings.model_copy(update={"name": model, "pooling": identity.pooling})
        try:
            found = compute_fingerprint(model, identity.pooling, identity.precision, identity.preprocessing)
        except EncoderUnusable as error:
            absent = absent or error
            continue
        except Exception as error:
            raise _unusable(named, error) from error
        if found == identity.fingerprint:
            return named
    if absent:
        raise absent
    raise EncoderMismatch(
        f"the files in {identity.model} are others than those that the vectors of encoder {identity.name} were made"
        " with: put those back, and these into another folder, which can be added beside it: visual-memory encoder add"
        " FOLDER"
    )


def _network(settings: EncoderSettings, identity: EncoderIdentity) -> "TorchNetwork":
    if identity.model == BUILT_IN:
        from visual_memory.services.encoding.efficientnet import load_efficientnet

        return load_efficientnet(settings.device, identity.preprocessing)
    from visual_memory.services.encoding.huggingface_models import load_pretrained

    folder = model_folder(settings.name or identity.model)
    return load_pretrained(str(folder), identity.pooling, settings.device, identity.preprocessing)


def _unusable(settings: EncoderSettings, error: Exception) -> EncoderUnusable:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    named = f"encoder.name {settings.name!r} with pooling {settings.pooling}"
    return EncoderUnusable(f"{named} cannot be loaded as an image model: {reason}")


def _precision_class(settings: EncoderSettings) -> PrecisionClass:
    """The precision that the encoder's vectors agree with."""
    agrees = settings.precision == "bfloat16" and (settings.name or BUILT_IN) in BFLOAT16_COMPATIBLE
    return "float32" if agrees or settings.precision == "auto" else settings.precision


def _precision(settings: EncoderSettings, identity: EncoderIdentity) -> "Precision":
    """One of the identity's class: where that has several, as the settings say, else bfloat16 where it is quick."""
    if identity.precision != "float32" or identity.model not in BFLOAT16_COMPATIBLE:
        return identity.precision
    if settings.precision in ("float32", "bfloat16"):
        return settings.precision
    return "bfloat16" if settings.device == "cpu" and has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; without them it is slower than float32."""
    import torch

    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
