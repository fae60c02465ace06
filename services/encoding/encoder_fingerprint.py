"""Digest what determines an encoder's vectors: model files, preprocessing, pooling and precision.

The digest does not depend on the files' location, the libraries, the device or the batch size.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from visual_memory.schemas.encoder import PoolingName, PrecisionClass
from visual_memory.services.decoding.preprocessing_crop import Preprocessing, PreprocessingCrop
from visual_memory.services.encoding.encoder_contract import EncoderUnusable

BUILT_IN = "efficientnet-lite0"
BUILT_IN_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Digest of the built-in encoder's weights; `services.encoding.efficientnet` loads no others."""
BUILT_IN_DIMENSION = 1280
"""Dimension of the built-in encoder's vectors."""
BUILT_IN_CROP = PreprocessingCrop(resize_side=256, crop_side=224)
"""Crop of the built-in encoder; defined here so that a process that only decodes need not load the encoder."""

CONFIGURATION_FILES = re.compile(
    r"(config|preprocessor_config|processor_config|modules|config_sentence_transformers|sentence_[\w-]+_config"
    r"|router_config)\.json"
)
"""Files other than weights that transformers and sentence-transformers read for pictures."""
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files that transformers looks for, in this order; it reads the first one that exists."""
IGNORED_KEYS = {"transformers_version", "_name_or_path", "__version__"}
"""Configuration keys that do not affect vectors."""
DOWNLOAD_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""Files to download from the hub; ``*.bin`` too if these contain no weights."""


def compute_fingerprint(
    model: str, pooling: PoolingName, precision: PrecisionClass, preprocessing: Preprocessing
) -> str:
    """Digest what determines an encoder's vectors.

    Args:
        model: `BUILT_IN`, a hub name, or a folder.
        pooling: as in `schemas.encoder.EncoderIdentity`, like the following.
        precision: the precision class.
        preprocessing: the version.

    Returns:
        64 hexadecimal digits.

    Raises:
        EncoderUnusable: there is no such folder, or it contains no weights.
        Exception: whatever the hub's client raises if the model does not exist, or the hub does not answer.
    """
    files = {"weights": BUILT_IN_WEIGHTS_SHA256} if model == BUILT_IN else dict(_digests(model_folder(model)))
    inputs = {"files": files, "pooling": pooling, "precision": precision, "preprocessing": preprocessing}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def model_folder(model: str) -> Path:
    """The absolute path of a model's folder: the given one, or the one in the cache of the hub's client.

    A cached model is used as it is, so that a new version of its authors changes nothing.

    Raises:
        EncoderUnusable: there is no such folder.
        Exception: whatever the hub's client raises if the model does not exist, or the hub does not answer.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise EncoderUnusable(f"encoder.name {model!r}: there is no such folder; name a folder, or a model of the hub")
    return _download(model)


def _download(model: str) -> Path:
    """The folder in the cache of the hub's client; a model that is missing or incomplete there is downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    cached: Path | None = None
    try:
        cached = Path(snapshot_download(model, local_files_only=True, allow_patterns=DOWNLOAD_PATTERNS))
        if _weight_files(cached):
            return cached
    except IncompleteSnapshotError as error:
        cached = Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        pass
    revision = cached.name if cached else None
    try:
        downloaded = Path(snapshot_download(model, revision=revision, allow_patterns=DOWNLOAD_PATTERNS))
        if _weight_files(downloaded):
            return downloaded
        return Path(snapshot_download(model, revision=downloaded.name, allow_patterns=[*DOWNLOAD_PATTERNS, "*.bin"]))
    except LocalEntryNotFoundError:  # the hub does not answer; the missing files may not be needed
        if cached and _weight_files(cached):
            return cached
        raise


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Relative path and digest of each file that affects vectors."""
    folders = _module_folders(folder)
    weights = [path for each in folders for path in _weight_files(each)]
    if not weights:
        raise EncoderUnusable(f"{folder} contains no weights of a model, such as {WEIGHT_FILES[0]}")
    for path in weights:
        state = path.stat()
        yield str(path.relative_to(folder)), _digest(path, state.st_size, state.st_mtime_ns, state.st_ino)
    for path in (path for each in folders for path in each.iterdir() if CONFIGURATION_FILES.fullmatch(path.name)):
        yield str(path.relative_to(folder)), hashlib.sha256(_canonical(path.read_bytes())).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: Path, *_state: int) -> str:
    """The digest of a file; the file is read again if its size, time or inode changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _module_folders(folder: Path) -> set[Path]:
    """The folders with a model's files: its own, and those of its sentence-transformers modules."""
    with suppress(FileNotFoundError):
        within = (folder / module["path"] for module in json.loads((folder / "modules.json").read_bytes()))
        roots = {path for path in within if path != folder and path.is_dir()}
        return {folder, *roots, *(path for root in roots for path in root.rglob("*") if path.is_dir())}
    return {folder}


def _weight_files(folder: Path) -> list[Path]:
    """The weights that are read from a folder, which may have none."""
    first = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if first is None or first.suffix != ".json":
        return [first] if first else []
    return [folder / name for name in sorted(set(json.loads(first.read_bytes())["weight_map"].values()))]


def _canonical(configuration: bytes) -> bytes:
    """A configuration without `IGNORED_KEYS`, in canonical form."""
    parsed = json.loads(configuration)
    if isinstance(parsed, dict):
        parsed = {name: value for name, value in parsed.items() if name not in IGNORED_KEYS}
    return json.dumps(parsed, sort_keys=True).encode()
