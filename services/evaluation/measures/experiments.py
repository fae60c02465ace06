"""What needs the vectors: approximate search against exact, the size of the memory, and a linear probe."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import MAX_TIMES_K, Effort
from visual_memory.schemas.evaluation_results import EvaluationOptions, Probe, Scaling, Size
from visual_memory.services.evaluation.measures import memory_size_line
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, T, Vectors, slices
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.voting.batch_votes import Integers, in_labels
from visual_memory.services.voting.exact_neighbours import MISSING, nearest
from visual_memory.services.voting.group_copies import voting_order

Approximate = Callable[[Vectors, int, Effort], list[list[str]]]
"""The memory's own search: ids of the k images that it finds for each vector with an effort, the nearest first; an
image may be found for itself."""
Progress = Callable[[str, int, int], None]
"""Told of the stage, in a word or two, and how much of it is done out of how much."""

STEP = 512
SEARCHES = 32
MOST_QUERIES = 5000
"""Of more queries, so many are drawn for what is repeated with other memories: their error is known to 0.7 points."""
MOST_SEARCHED = 1000
"""Of more queries, so many are drawn for the approximate search, which makes one after the other."""
RECALLED = (1, 5, 10, 20, 50, 100)
SLACK = 1e-5
"""Similarities that differ by less are equal: two searches do not round alike."""
PARTS = {0.01: 5, 0.02: 5, 0.05: 5, 0.1: 3, 0.2: 3, 0.5: 2, 1.0: 1}
"""Parts of the memory, and how often each is drawn: small ones differ more."""
FOLDS = 5
MOST_TAUGHT = 20_000
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge regression finds the best of them on what it is taught with, in one fit. Logistic regression, fitted anew for
four penalties and the best picked on the queries themselves, is right for 85.8 % of 120 garments (ridge: 84.2 %) and
93.6 % of 597 digits (ridge: 95.5 %): take the baseline as known to a point or two."""
METHOD = "ridge regression on the labels, its penalty chosen by leaving one out"


def search(
    queries: Vectors,
    memory: Vectors,
    k: int,
    leave_out: Integers | None,
    told: Callable[[int, int], None] = lambda _done, _total: None,
    contents: Integers | None = None,
) -> Neighbours:
    """The exact neighbours of queries, with progress; see `nearest`.

    With `contents` of the images, they are as many as it takes for k that do not share a vote, up to 4 k.
    """
    found = []
    width = k if contents is None else min(MAX_TIMES_K * k, len(memory))
    for some in slices(len(queries), STEP):
        own = None if leave_out is None else leave_out[some]
        similarities, rows = nearest(queries[some], memory, width, own, cpu_threads.count())
        if contents is not None:
            groups = np.where(rows == MISSING, MISSING, contents[rows])
            voting = voting_order(groups, similarities, k)
            last = int(np.where(voting.ranks == MISSING, 0, voting.order).max(initial=0))
            similarities, rows = similarities[:, : last + 1], rows[:, : last + 1]
        found.append((similarities, rows))
        told(some.stop, len(queries))
    widest = max((rows.shape[1] for _, rows in found), default=k)
    return Neighbours.equal(
        _stacked([each for each, _ in found], widest, -1), _stacked([each for _, each in found], widest, MISSING)
    )


def _stacked(parts: Sequence[NDArray[T]], width: int, fill: float) -> NDArray[T]:
    """Tables below each other, each filled up to a width."""
    return np.concatenate([np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=fill) for each in parts])


@dataclass(frozen=True)
class Experiments:
    """A study with the vectors it was made of.

    Attributes:
        memory: float32 [m, d], the vectors of the images that vote.
        queries: float32 [n, d], the vectors of the study's queries.
        k: how many neighbours vote.
    """

    study: NeighbourMatrix
    memory: Vectors
    queries: Vectors
    options: EvaluationOptions
    k: int
    progress: Progress

    def recall(self, approximate: Approximate, effort: Effort) -> dict[int, float]:
        """How many of the k nearest an approximate search finds, 0 to 1; an equally near one counts as found."""
        study, numbers = self.study, {image_id: row for row, image_id in enumerate(self.study.image_ids)}
        asked, width = self._draw(len(self.queries), MOST_SEARCHED), study.voters.rows.shape[1]
        found = {k: 0.0 for k in RECALLED if k <= width}
        for some in slices(len(asked), SEARCHES):
            answers = approximate(self.queries[asked[some]], width + study.itself, effort)
            for query, image_ids in zip(asked[some].tolist(), answers, strict=True):
                own = study.query_ids[query] if study.itself else None
                rows = [numbers[each] for each in image_ids if each != own and each in numbers]
                near, exact = self.memory[rows] @ self.queries[query], study.voters.similarities[query]
                for k in found:
                    found[k] += float(np.mean(np.arange(k) < np.sum(near[:k] >= exact[k - 1] - SLACK)))
            self.progress(f"{effort} search", some.stop, len(asked))
        return {k: total / len(asked) for k, total in found.items()}

    def scaling(self) -> Scaling:
        """The error with parts of the memory, drawn at random."""
        images, chance = len(self.study.image_ids), np.random.default_rng(self.options.seed)
        asked = self._draw(len(self.queries), MOST_QUERIES)
        errors: dict[int, list[float]] = {}
        for done, (part, draws) in enumerate(PARTS.items(), start=1):
            size = max(1 + self.study.itself, round(part * images))
            if size not in errors:
                drawn = [np.sort(chance.permutation(images)[:size]) for _ in range(draws)]
                errors[size] = [1 - self._accuracy(asked, each) for each in drawn]
            self.progress("sizes of the memory", done, len(PARTS))
        a, b = memory_size_line.fit(list(errors), [float(np.mean(each)) for each in errors.values()]) or (None, None)
        return Scaling(sizes=[Size(images=size, errors=each) for size, each in errors.items()], a=a, b=b)

    def probe(self) -> Probe | None:
        """A linear classifier taught with the memory's vectors and first labels, and the vote of the same images.

        The memory against itself is asked in five parts, each by what was taught with the other four.
        """
        right, votes, folds = 0.0, 0.0, list(self._folds())
        for done, (asked, taught) in enumerate(folds, start=1):
            if len(np.unique(self.study.votes_for[taught, 0])) < 2:
                return None
            some = taught[self._draw(len(taught), MOST_TAUGHT)]
            right += self._probed(asked, some)
            votes += len(asked) * self._accuracy(asked, some)
            self.progress("linear probe", done, len(folds))
        queries, least = len(self.queries), min(MOST_TAUGHT, *(len(taught) for _, taught in folds))
        return Probe(method=METHOD, taught=least, accuracy=right / queries, queries=queries, votes=votes / queries)

    def _probed(self, asked: Integers, taught: Integers) -> float:
        """How many of some queries a linear classifier gets right that was taught with some images."""
        from sklearn.linear_model import RidgeClassifierCV  # noqa: PLC0415 - takes a second to import

        probe = RidgeClassifierCV(alphas=PENALTIES)
        probe.fit(self.memory[taught], self.study.votes_for[taught, 0])
        return float(in_labels(probe.predict(self.queries[asked]), self.study.truth[asked]).sum())

    def _folds(self) -> Iterator[tuple[Integers, Integers]]:
        """Queries to ask, and the images to teach with."""
        images, queries = np.arange(len(self.study.image_ids)), np.arange(len(self.queries))
        if not self.study.itself:
            yield queries, images
            return
        for part in np.array_split(np.random.default_rng(self.options.seed).permutation(queries), FOLDS):
            if part.size:
                yield np.sort(part), np.setdiff1d(images, part)

    def novelty(self) -> float | None:
        """How well the mean distance to the voters tells queries of a class that the memory does not hold, as AUROC.

        The classes are left out of the memory in five parts, one after the other, and the mean is returned; None where
        there is but one class. A query with labels of both kinds is not asked.
        """
        from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second to import

        labels, asked = self.study.votes_for[:-1], self._draw(len(self.queries), MOST_QUERIES)
        classes = np.random.default_rng(self.options.seed).permutation(np.unique(labels[labels != MISSING]))
        parts, found = np.array_split(classes, min(FOLDS, len(classes))), []
        for done, part in enumerate(parts, start=1):
            images = np.flatnonzero(~np.isin(labels, part).any(axis=1))
            held, times = np.unique(labels[images], return_counts=True)
            held = held[(held != MISSING) & (times > self.study.itself)]  # the only image of a class finds none of it
            truth = self.study.truth[asked]
            new = ~np.isin(truth, held).any(axis=1)
            some = asked[new | ~np.isin(truth, part).any(axis=1)]
            new = np.isin(some, asked[new])
            if len(images) > self.study.itself and 0 < np.count_nonzero(new) < len(some):
                found.append(float(roc_auc_score(new, self._voters(some, images).mean_distances())))
            self.progress("new classes", done, len(parts))
        return float(np.mean(found)) if found else None

    def _accuracy(self, asked: Integers, images: Integers) -> float:
        """Of the vote on some queries, with some of the images as the memory, by ascending number."""
        some = replace(self.study, truth=self.study.truth[asked])
        return float(some.accuracy(self._voters(asked, images), [self.options])[0, -1])

    def _voters(self, asked: Integers, images: Integers) -> Neighbours:
        """Of some queries, with some of the images as the memory, by ascending number."""
        own = None
        if self.study.itself:
            place = np.full(len(self.study.image_ids), MISSING)
            place[images] = np.arange(len(images))
            own = place[asked]
        k = min(self.k, len(images) - (own is not None and bool((own != MISSING).any())))
        contents = self.study.contents
        alike = None if contents is None else contents[images]
        near = search(self.queries[asked], self.memory[images], k, own, contents=alike)
        return replace(near, rows=np.append(images, MISSING)[near.rows]).sharing(contents, k)

    def _draw(self, size: int, most: int) -> Integers:
        """All of so many, or so many of them at random; ascending."""
        return np.sort(np.random.default_rng(self.options.seed).permutation(size)[:most])
