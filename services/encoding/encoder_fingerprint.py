"""What decides an encoder's vectors, as one digest: its files, preprocessing, pooling and precision.

Where the files lie, which libraries read them, and on which device and in which batches pictures are embedded is not in
it.
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
"""Of the built-in encoder's weights: `services.encoding.efficientnet` loads no others."""
BUILT_IN_DIMENSION = 1280
"""Of the built-in encoder's vectors."""
BUILT_IN_CROP = PreprocessingCrop(resize_side=256, crop_side=224)
"""What the built-in encoder takes of a picture: here, so that who only decodes for it need not load it."""

CONFIGURATION_FILES = re.compile(
    r"(config|preprocessor_config|processor_config|modules|config_sentence_transformers|sentence_[\w-]+_config"
    r"|router_config)\.json"
)
"""The files beside the weights that transformers and sentence-transformers read for pictures."""
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The files that transformers looks for, in this order: it reads the first that there is."""
IGNORED_KEYS = {"transformers_version", "_name_or_path", "__version__"}
"""What is written into configurations and decides nothing."""
DOWNLOAD_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""Of a model of the hub; ``*.bin`` too, where it has no weights among these."""


def compute_fingerprint(
    model: str, pooling: PoolingName, precision: PrecisionClass, preprocessing: Preprocessing
) -> str:
    """The digest of what decides an encoder's vectors.

    Args:
        model: `BUILT_IN`, a hub name, or a folder.
        pooling: as in `schemas.encoder.EncoderIdentity`; so are the others.
        precision: the class.
        preprocessing: the version.

    Returns:
        64 hexadecimal digits.

    Raises:
        EncoderUnusable: there is no such folder, or it holds no weights.
        Exception: whatever the hub's client raises where it has no such model, or does not answer.
    """
    files = {"weights": BUILT_IN_WEIGHTS_SHA256} if model == BUILT_IN else dict(_digests(model_folder(model)))
    made_of = {"files": files, "pooling": pooling, "precision": precision, "preprocessing": preprocessing}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def model_folder(model: str) -> Path:
    """The folder of a model, absolute: as it is named, or the one that the hub's client keeps it in.

    A model that is kept already is taken as it is, so that nothing changes when its authors publish another.

    Raises:
        EncoderUnusable: there is no such folder.
        Exception: whatever the hub's client raises where it has no such model, or does not answer.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise EncoderUnusable(f"encoder.name {model!r}: there is no such folder; name a folder, or a model of the hub")
    return _kept(model)


def _kept(model: str) -> Path:
    """The folder that the hub's client keeps a model in; fetched where it is not there whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    begun: Path | None = None
    try:
        begun = Path(snapshot_download(model, local_files_only=True, allow_patterns=DOWNLOAD_PATTERNS))
        if _weights(begun):
            return begun
    except IncompleteSnapshotError as error:
        begun = Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        pass
    revision = begun.name if begun else None
    try:
        kept = Path(snapshot_download(model, revision=revision, allow_patterns=DOWNLOAD_PATTERNS))
        if _weights(kept):
            return kept
        return Path(snapshot_download(model, revision=kept.name, allow_patterns=[*DOWNLOAD_PATTERNS, "*.bin"]))
    except LocalEntryNotFoundError:  # the hub does not answer; what is missing may be needless
        if begun and _weights(begun):
            return begun
        raise


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Path in the folder and digest of each file that decides vectors."""
    parts = _parts(folder)
    weights = [path for part in parts for path in _weights(part)]
    if not weights:
        raise EncoderUnusable(f"{folder} holds no weights of a model, such as {WEIGHT_FILES[0]}")
    for path in weights:
        state = path.stat()
        yield str(path.relative_to(folder)), _digest(path, state.st_size, state.st_mtime_ns, state.st_ino)
    for path in (path for part in parts for path in part.iterdir() if CONFIGURATION_FILES.fullmatch(path.name)):
        yield str(path.relative_to(folder)), hashlib.sha256(_settled(path.read_bytes())).hexdigest()


@lru_cache(maxsize=64)
def _digest(path: Path, *_state: int) -> str:
    """The digest of a file; read again where its state is another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(folder: Path) -> set[Path]:
    """The folders that a model's files lie in: its own, and those of its modules, which sentence-transformers saves."""
    with suppress(FileNotFoundError):
        within = (folder / module["path"] for module in json.loads((folder / "modules.json").read_bytes()))
        roots = {path for path in within if path != folder and path.is_dir()}
        return {folder, *roots, *(path for root in roots for path in root.rglob("*") if path.is_dir())}
    return {folder}


def _weights(part: Path) -> list[Path]:
    """The files of weights that are read from a folder; none where it has none."""
    first = next((part / name for name in WEIGHT_FILES if (part / name).is_file()), None)
    if first is None or first.suffix != ".json":
        return [first] if first else []
    return [part / name for name in sorted(set(json.loads(first.read_bytes())["weight_map"].values()))]


def _settled(configuration: bytes) -> bytes:
    """A configuration without `IGNORED_KEYS`, written in one way."""
    parsed = json.loads(configuration)
    if isinstance(parsed, dict):
        parsed = {name: value for name, value in parsed.items() if name not in IGNORED_KEYS}
    return json.dumps(parsed, sort_keys=True).encode()
