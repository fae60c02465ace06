"""Test the paper's claims on the demo's digits, and on a FOLDER with memory/LABEL/*.jpg and queries/LABEL/*.jpg.

python -m benchmarks.paper_claims [FOLDER ...] [--preprocessing 1|2|both]

With ``both``: first what of it the second preprocessing changed, in a table.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from visual_memory.schemas.classify_options import Prune, Vote
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.decoding.preprocessing_crop import Preprocessing
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.evaluation.compute_evaluation import evaluate
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, build_neighbour_matrix
from visual_memory.services.evaluation.search_with_progress import exact_search
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Vectors

DIGITS_IN_MEMORY = 1200
SHRINKAGES = (0.1, 1.0, 10.0)
"""The share of the mean variance that is added to each variance before whitening."""


@dataclass(frozen=True)
class Pictures:
    """A memory and queries, embedded."""

    name: str
    memory: LabelledVectors
    queries: LabelledVectors


def main() -> None:
    """Print a table for each."""
    parser = argparse.ArgumentParser("python -m benchmarks.paper_claims")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--preprocessing", choices=("1", "2", "both"), default="2")
    asked = parser.parse_args()
    if asked.preprocessing == "both":
        _side_by_side(asked.folders)
        return
    encoder = _encoder(2 if asked.preprocessing == "2" else 1)
    for pictures in _all(encoder, asked.folders):
        _report(encoder.name, pictures)


def _encoder(preprocessing: Preprocessing) -> Encoder:
    settings = EncoderSettings()
    return load_encoder(settings, identify(settings, preprocessing))


def _all(encoder: Encoder, folders: Sequence[Path]) -> Iterator[Pictures]:
    yield _digits(encoder)
    yield from (_folder(encoder, folder) for folder in folders)


def _side_by_side(folders: Sequence[Path]) -> None:
    print("| pictures | figure | first preprocessing | second |\n|---|---|---|---|")
    first, second = _encoder(1), _encoder(2)
    for before, now in zip(_all(first, folders), _all(second, folders), strict=True):
        old, new = _figures(first.name, before), _figures(second.name, now)
        for figure in old:
            print(f"| {now.name} | {figure} | {old[figure]:.1%} | {new[figure]:.1%} |")


def _figures(encoder: str, pictures: Pictures) -> dict[str, float]:
    """Claims about vectors rather than about a vote."""
    found = evaluate(pictures.memory, pictures.queries, EvaluationOptions(), lambda *_: None, encoder=encoder)
    [rank] = (curve.accuracy for curve in found.curves if (curve.vote, curve.prune) == (Vote.RANK, Prune.NONE))
    assert found.probe is not None
    return {"rank vote, the best k": max(rank), "rank vote, k = 50": rank[49], "linear probe": found.probe.accuracy}


def _report(encoder: str, pictures: Pictures) -> None:
    print(f"{pictures.name}: {len(pictures.memory.ids)} in memory, {len(pictures.queries.ids)} asked, exact search")
    options = EvaluationOptions()
    found = evaluate(pictures.memory, pictures.queries, options, lambda *_: None, encoder=encoder)
    curves = {(curve.vote, curve.prune): np.array(curve.accuracy) for curve in found.curves}
    for vote in Vote:
        plain = curves[vote, Prune.NONE]
        print(f"  {vote:9} best {plain.max():6.1%} (k = {plain.argmax() + 1:3}), k = 100 {plain[-1]:6.1%}")
    none, soft = curves[Vote.RANK, Prune.NONE], curves[Vote.RANK, Prune.SOFT]
    worse = int((soft < none).sum())
    print(
        f"  soft pruning, rank vote, against none: {np.mean(soft - none):+.2%} over all k; worse at {worse} of 100 ks"
    )
    for sets in found.sets or ():
        print(
            f"  sets asked to hold the right label for {sets.coverage:.0%}: {sets.covered:.1%}, {sets.size:.1f} labels"
        )
    assert found.probe is not None
    print(f"  linear probe {found.probe.accuracy:.1%}, the rank vote of {found.k}: {found.probe.votes:.1%}")
    for shrinkage in SHRINKAGES:
        whitened = _whitened(pictures, shrinkage)
        right = _accuracy(whitened.memory, whitened.queries)
        print(f"  the same vote on whitened vectors, shrinkage {shrinkage:4}: {right:.1%}")
    _join(pictures)


def _join(pictures: Pictures) -> None:
    """Add each class last: its accuracy at once, and the loss of the others (paper: NINCO)."""
    new, before, after = [], [], []
    for label in sorted({label for [label] in pictures.memory.labels}):
        known = _some(pictures.memory, [own != [label] for own in pictures.memory.labels])
        others = _some(pictures.queries, [own != [label] for own in pictures.queries.labels])
        newcomers = _some(pictures.queries, [own == [label] for own in pictures.queries.labels])
        before.append(_accuracy(known, others))
        after.append(_accuracy(pictures.memory, others))
        new.append(_accuracy(pictures.memory, newcomers))
    print(
        f"  a class that comes last, mean over all: right for {np.mean(new):.1%} of its own at once;"
        f" the others {np.mean(before):.1%} before, {np.mean(after):.1%} after"
    )


def _accuracy(memory: LabelledVectors, queries: LabelledVectors) -> float:
    """Accuracy of the rank vote with k = 50."""
    options = EvaluationOptions()
    voters = exact_search(queries.vectors, memory.vectors, options.k, None)
    names = (queries.ids, queries.labels), (memory.ids, memory.labels)
    study = build_neighbour_matrix("", *names, voters, itself=False)
    return float(study.accuracy(voters, [options])[0, -1])


def _whitened(pictures: Pictures, shrinkage: float) -> Pictures:
    """Whiten: centre and give every direction of the memory the same weight, without labels or training."""
    memory = pictures.memory.vectors.astype(np.float64)
    mean = memory.mean(axis=0)
    _, spread, directions = np.linalg.svd(memory - mean, full_matrices=False)
    variance = spread**2 / len(memory)
    turn = directions.T / np.sqrt(variance + shrinkage * variance.mean())

    def of(images: LabelledVectors) -> LabelledVectors:
        rows = (images.vectors - mean) @ turn
        return LabelledVectors(images.ids, images.labels, _unit(rows))

    return Pictures(pictures.name, of(pictures.memory), of(pictures.queries))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _some(images: LabelledVectors, wanted: Sequence[bool]) -> LabelledVectors:
    rows = np.flatnonzero(wanted).tolist()
    return LabelledVectors(
        [images.ids[row] for row in rows], [images.labels[row] for row in rows], images.vectors[rows]
    )


def _digits(encoder: Encoder) -> Pictures:
    """Digits, drawn as in the demo."""
    digits = load_digits()
    drawn = [PIL.Image.fromarray(255 - (values * 15.9).astype("uint8")) for values in digits.images]
    names, labels = [f"digit-{n}" for n in range(len(drawn))], [[str(digit)] for digit in digits.target]
    whole = LabelledVectors(names, labels, _embed(encoder, drawn))
    memory = [place < DIGITS_IN_MEMORY for place in range(len(drawn))]
    return Pictures("digits", _some(whole, memory), _some(whole, [not each for each in memory]))


def _embed(encoder: Encoder, pictures: Iterable[PIL.Image.Image]) -> Vectors:
    return encoder.encode([encoder.crop.apply(picture.convert("RGB")) for picture in pictures])


def _folder(encoder: Encoder, folder: Path) -> Pictures:
    def part(name: str) -> LabelledVectors:
        files = sorted((folder / name).glob("*/*.jpg"))
        vectors = _embed(encoder, map(PIL.Image.open, files))
        ids = [f"{name}/{file.parent.name}/{file.stem}" for file in files]
        return LabelledVectors(ids, [[file.parent.name] for file in files], vectors)

    return Pictures(folder.name, part("memory"), part("queries"))


if __name__ == "__main__":
    main()
