"""Two encoders asked the same, against plain counting by the vote of a classification, one picture at a time."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from tests.support.random_memory import silent
from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.encoder_comparison import ChangedAnswer, Comparison
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.evaluation.compute_evaluation import evaluate
from visual_memory.services.evaluation.measures.paired_statistics import (
    EncodedImages,
    compare,
    paired_difference,
    proportion,
)
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, Vectors
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

OPTIONS = EvaluationOptions(k=9)
MEMORY, QUERIES = 150, 60


def digits(rows: slice, coarse: int) -> LabelledVectors:
    """Handwritten digits; their pixels as vectors, each the sum of `coarse` x `coarse` of them, less their mean."""
    found = load_digits()
    side = 8 // coarse
    pixels = found.images[rows].reshape(-1, side, coarse, side, coarse).sum(axis=(2, 4)).reshape(-1, side * side)
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    unit: Vectors = (pixels / np.linalg.norm(pixels, axis=1, keepdims=True)).astype(np.float32)
    numbers = range(rows.start, rows.stop)
    return LabelledVectors(
        [f"digit-{number}" for number in numbers], [[str(each)] for each in found.target[rows]], unit
    )


def with_copies(memory: LabelledVectors) -> LabelledVectors:
    """The same, with some images there two or three times; some copies have another label, or one more."""
    content = np.repeat(np.arange(len(memory.ids) // 2), [1, 2, 3] * (len(memory.ids) // 6))[: len(memory.ids)]
    labels = [
        ["0"] if place % 29 == 0 else [*dict.fromkeys([*memory.labels[each], *["1"] * (place % 13 == 0)])]
        for place, each in enumerate(content)
    ]
    return LabelledVectors(memory.ids, labels, memory.vectors[content], [f"content-{each}" for each in content])


def both(copies: bool, asked: bool) -> tuple[EncodedImages, EncodedImages]:
    sides = []
    for name, coarse in (("coarse", 4), ("fine", 1)):
        memory = digits(slice(0, MEMORY), coarse)
        memory = replace(memory, labels=[["odd"], *memory.labels[1:]])  # the only one of its class
        queries = digits(slice(MEMORY, MEMORY + QUERIES), coarse) if asked else None
        sides.append(EncodedImages(name, with_copies(memory) if copies else memory, queries))
    return sides[0], sides[1]


def voters(side: EncodedImages, query: int, without: Sequence[str] = ()) -> list[Seen]:
    """The neighbours that vote on a picture, with images of some labels left out."""
    memory, asked = side.memory, side.queries or side.memory
    seen = []
    for place, image_id in enumerate(memory.ids):
        if (side.queries is None and place == query) or {*memory.labels[place]} & {*without}:
            continue
        similarity = float(np.vecdot(asked.vectors[query], memory.vectors[place]))
        content = memory.contents[place] if memory.contents else image_id
        seen.append(Seen(image_id, similarity, memory.labels[place], 1.0, content))
    order = {image_id: place for place, image_id in enumerate(memory.ids)}
    return first_groups(sorted(seen, key=lambda each: (-each.similarity, order[each.image_id])), OPTIONS.k)[0]


def answer(side: EncodedImages, query: int) -> str:
    return str(decide(voters(side, query), ClassifyOptions(k=OPTIONS.k), "").label)


@pytest.fixture(scope="module", params=[(False, False), (True, False), (False, True), (True, True)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[EncodedImages, EncodedImages, Comparison]:
    a, b = both(*request.param)
    return a, b, compare(a, b, OPTIONS, silent)


def test_who_is_right_and_who_changes_is_as_by_classifying_each(
    case: tuple[EncodedImages, EncodedImages, Comparison],
) -> None:
    a, b, found = case
    asked = a.queries or a.memory
    first, second = ([answer(side, query) for query in range(len(asked.ids))] for side in (a, b))
    right = [(one in labels, other in labels) for one, other, labels in zip(first, second, asked.labels, strict=True)]
    changes = {(False, True): list[ChangedAnswer](), (True, False): [], (False, False): [], (True, True): []}
    for image_id, labels, one, other, how in zip(asked.ids, asked.labels, first, second, right, strict=True):
        if one != other:
            changes[how].append(ChangedAnswer(image_id=image_id, labels=[*labels], a=one, b=other))
    assert changes[False, True], "a finer picture was to be told better"
    assert found.gained == changes[False, True]
    assert found.lost == changes[True, False]
    assert found.swapped == changes[False, False]
    assert found.a.accuracy.value == pytest.approx(sum(one for one, _ in right) / len(right))
    assert found.b.accuracy.value == pytest.approx(sum(other for _, other in right) / len(right))
    assert found.difference.value == pytest.approx(found.b.accuracy.value - found.a.accuracy.value)
    assert (found.queries, found.images, found.k) == (len(asked.ids), MEMORY, OPTIONS.k)
    assert (found.a.encoder, found.b.encoder) == ("coarse", "fine")


def test_accuracy_and_calibration_are_those_of_an_evaluation(
    case: tuple[EncodedImages, EncodedImages, Comparison],
) -> None:
    a, _, found = case
    evaluation = evaluate(a.memory, a.queries, OPTIONS, silent, encoder="coarse")
    assert evaluation.calibration is not None
    assert found.a.accuracy.value == evaluation.accuracy
    assert found.a.ece == evaluation.calibration.before.ece
    assert found.a.calibrated_ece == evaluation.calibration.after.ece
    assert found.a.temperature == evaluation.calibration.temperature


def test_novelty_is_that_of_plain_counting(case: tuple[EncodedImages, EncodedImages, Comparison]) -> None:
    """Each fifth of the classes is left out of the memory once; pairs of a new and a known picture are counted."""
    a, b, found = case
    for side, figure in ((a, found.a.novelty_auroc), (b, found.b.novelty_auroc)):
        asked = side.queries or side.memory
        names = list(dict.fromkeys(label for labels in side.memory.labels for label in labels))
        parts = np.array_split(np.random.default_rng(OPTIONS.seed).permutation(len(names)), 5)
        areas = []
        for part in parts:
            out = [names[place] for place in part]
            distances: dict[bool, list[float]] = {True: [], False: []}
            for query, labels in enumerate(asked.labels):
                near = voters(side, query, out)
                others = [each for place, each in enumerate(side.memory.labels) if side.queries or place != query]
                held = {label for each in others if not {*each} & {*out} for label in each}
                new = not {*labels} & held
                if not new and {*labels} & {*out}:
                    continue
                nearest = {each.group: each.similarity for each in reversed(near)}
                distances[new].append(float(np.mean([1 - each for each in nearest.values()])))
            further, nearer = (np.array(distances[each])[:, None] for each in (True, False))
            areas.append(float(np.mean((further > nearer.T) + 0.5 * (further == nearer.T))))
        assert len(parts) == 5
        assert figure == pytest.approx(np.mean(areas), abs=1e-6)
        assert figure is not None
        assert figure > 0.6


def test_a_memory_of_one_class_has_no_novelty() -> None:
    memory = digits(slice(0, 20), 1)
    alike = EncodedImages("fine", replace(memory, labels=[["digit"]] * 20))
    found = compare(alike, alike, OPTIONS, silent)
    assert found.a.novelty_auroc is None
    assert (found.a.accuracy.value, found.difference.value) == (1, 0)


def test_the_same_encoder_twice_changes_nothing() -> None:
    a, _ = both(copies=True, asked=False)
    found = compare(a, a, OPTIONS, silent)
    assert found.gained == found.lost == found.swapped == []
    assert found.a == found.b
    assert found.difference.low < 0 < found.difference.high


def test_one_image_has_nobody_to_answer() -> None:
    alone = EncodedImages("fine", digits(slice(0, 1), 1))
    with pytest.raises(InvalidRequest, match="fewer than two images"):
        compare(alone, alone, OPTIONS, silent)


def test_an_accuracy_has_wilson_s_interval() -> None:
    """Against its formula: p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²), over 1 + z²/n."""
    number, right, z = 40, 37, 1.959963984540054
    found = proportion(np.arange(number) < right)
    p = right / number
    middle, half = p + z * z / (2 * number), z * np.sqrt(p * (1 - p) / number + z * z / (4 * number**2))
    low, high = ((middle + sign * half) / (1 + z * z / number) for sign in (-1, 1))
    assert (found.value, found.low, found.high) == pytest.approx((p, low, high))


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.01, 0.06), (0.1, 0.2), (0.0, 0.03)])
@pytest.mark.parametrize("number", [60, 400])
def test_the_interval_of_pairs_holds_the_true_difference(number: int, lost: float, gained: float) -> None:
    """In 95 of 100 draws, or a few more: of those who change, one part loses and another gains."""
    chance = np.random.default_rng(5)
    drawn = chance.choice(3, size=(2000, number), p=[lost, gained, 1 - lost - gained])
    holds = 0
    for row in drawn:
        found = paired_difference(row == 0, row == 1)
        holds += found.low <= gained - lost <= found.high
    assert 0.935 <= holds / len(drawn) <= 1


@pytest.mark.parametrize("number", [50, 1000])
def test_a_difference_is_told_from_as_few_changes_as_by_the_exact_test(number: int) -> None:
    """McNemar's: of so many changes, all for the better."""
    for gained in range(1, 12):
        found = paired_difference(np.zeros(number, bool), np.arange(number) < gained)
        assert (found.low > 0) == (binomtest(gained, gained).pvalue < 0.05), gained
