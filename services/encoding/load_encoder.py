"""Identify and load the encoder that the settings name; the heavy libraries are imported only for loading."""

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
"""Encoders whose bfloat16 vectors have a cosine of at least 0.999 to the float32 vectors, so that machines with either
precision may share a collection: similarities to one neighbour differ by less than 0.09 even if all errors add up. The
minimum over 400 photographs, by ``python -m benchmarks.agreement NAME``, is 0.9995 for efficientnet-lite0; 0.9992 if
they are blurred, and 0.9987 with a tenth of their contrast.
"""
BATCH_SIZE = {"cpu": 8, "cuda": 64}
"""Default batch sizes. 8 pictures keep a core busy; with more, callers would wait for each other longer."""
MAX_NAME_LENGTH = 100
"""Characters of a model's name in the name of its vectors, which engines use as a folder's name."""


def identify(settings: EncoderSettings, preprocessing: Preprocessing = 2) -> EncoderIdentity:
    """Identify the encoder that the settings name, by default `BUILT_IN`; a model of the hub is downloaded for it.

    Raises:
        EncoderUnusable: there is no such model.
    """
    model = settings.name or BUILT_IN
    if model == BUILT_IN:
        settings = settings.model_copy(update={"pooling": "auto"})  # it supports no other
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
    """The name of the encoder's vectors before names contained fingerprints."""
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
        settings: device, precision, batch size and threads; the threads apply to the whole process. If the folder of
            `identity` is missing on this machine or contains another model, the model that the settings name is tried.
        identity: which encoder, an `EncoderSpec` if a memory knows it; by default the one that the settings name.

    Returns:
        An encoder with the identity's name, which has embedded its first picture.

    Raises:
        EncoderUnusable: there is no such model or device, or the model does not accept pictures.
        EncoderMismatch: the model's files are not those of `identity`.
    """
    import torch

    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EncoderUnusable(
            f"encoder.device {settings.device}: PyTorch sees {torch.cuda.device_count()} such devices"
        )
    if settings.threads:  # otherwise PyTorch's default, one per core
        torch.set_num_threads(settings.threads)
    from visual_memory.services.encoding.torch_encoder import TorchEncoder

    resolved = settings
    if identity:
        resolved = _locate(settings, identity)
    identity = identity or identify(settings)
    try:
        network = replace(_network(resolved, identity), name=identity.name)
        return TorchEncoder(
            network, network.build(_precision(settings, identity)), settings.batch_size or BATCH_SIZE[device.type]
        )
    except VisualMemoryError:
        raise
    except Exception as error:  # the libraries raise exceptions of many kinds
        raise _unusable(resolved, error) from error


def _locate(settings: EncoderSettings, identity: EncoderIdentity) -> EncoderSettings:
    """Settings that name the model with the identity's files: at its old location, or where the settings name it."""
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
        f"the files in {identity.model} are not those that made the vectors of encoder {identity.name}: restore those"
        " files, and put the present ones into another folder, which can be added as another encoder: visual-memory"
        " encoder add FOLDER"
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
    """The precision class of the encoder's vectors."""
    compatible = settings.precision == "bfloat16" and (settings.name or BUILT_IN) in BFLOAT16_COMPATIBLE
    return "float32" if compatible or settings.precision == "auto" else settings.precision


def _precision(settings: EncoderSettings, identity: EncoderIdentity) -> "Precision":
    """A precision of the identity's class: the one in the settings, or bfloat16 on processors that support it."""
    if identity.precision != "float32" or identity.model not in BFLOAT16_COMPATIBLE:
        return identity.precision
    if settings.precision in ("float32", "bfloat16"):
        return settings.precision
    return "bfloat16" if settings.device == "cpu" and has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether this processor has bfloat16 instructions; without them bfloat16 is slower than float32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
