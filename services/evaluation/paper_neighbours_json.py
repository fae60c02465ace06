"""Read and write neighbours in the JSON format of the paper's authors: lists of neighbours by image id."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.evaluation_results import NeighbourList
from visual_memory.schemas.strict_json import check_keys
from visual_memory.schemas.validation_faults import first_faults
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, build_neighbour_matrix
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.image_reliability import HARD_K

Classes = str | list[str]


def read(path: Path) -> dict[str, NeighbourList]:
    """Read the lists of a file. Ids and classes may be numbers, which become strings.

    Raises:
        InvalidRequest: it is not in the authors' format; the message names the position.
        OSError: it cannot be read.
    """
    try:
        lists = TypeAdapter(dict[str, NeighbourList]).validate_json(data := path.read_bytes())
    except ValidationError as error:
        raise InvalidRequest(f"{path}: {first_faults(error, 'file')}") from None
    check_keys(data)
    return lists


def matrix_from_lists(lists: Mapping[str, NeighbourList]) -> NeighbourMatrix:
    """The queries and their 100 nearest neighbours; no image is a neighbour of itself.

    Raises:
        InvalidRequest: there are no lists, one has no neighbours, or they contradict each other.
    """
    encoders = sorted({each["featurizer"] for each in lists.values()})
    if len(encoders) != 1:
        raise InvalidRequest(f"neighbours of one featurizer are expected, not of {len(encoders)}: {encoders[:5]}")
    classes = _neighbour_classes(lists)
    itself = classes.keys() <= lists.keys()
    images = list(lists if itself else classes)
    row_of = {image_id: row for row, image_id in enumerate(images)}
    width = min(HARD_K, max(len(each["neighbor_image_ids"]) for each in lists.values()))
    similarities, rows = np.full((len(lists), width), -1.0), np.full((len(lists), width), MISSING)
    for query, (image_id, each) in enumerate(lists.items()):
        others = [(row_of[other], distance) for other, distance in _others(image_id, each)][:width]
        rows[query, : len(others)] = [other for other, _ in others]
        similarities[query, : len(others)] = [1 - distance for _, distance in others]
    query_labels = [_labels(each["image_class"]) for each in lists.values()]
    image_labels = query_labels if itself else [_labels(classes[image_id]) for image_id in images]
    used = (rows != MISSING).sum(axis=0).astype(bool)
    neighbours = Neighbours.equal(similarities[:, used], rows[:, used])
    names = (list(lists), query_labels), (images, image_labels)
    return build_neighbour_matrix(encoders[0], *names, neighbours, itself=itself)


def matrix_to_lists(matrix: NeighbourMatrix) -> dict[str, NeighbourList]:
    """The neighbours in the authors' format; an image with several labels has a list of classes."""
    query_classes = [_classes(matrix, numbers) for numbers in matrix.query_labels]
    image_classes = [_classes(matrix, numbers) for numbers in matrix.image_labels[:-1]]
    lists: dict[str, NeighbourList] = {}
    for query, image_id in enumerate(matrix.query_ids):
        rows = matrix.neighbours.rows[query]
        found = rows[rows != MISSING].tolist()
        lists[image_id] = {
            "featurizer": matrix.encoder,
            "image_id": image_id,
            "image_class": query_classes[query],
            "neighbor_image_ids": [matrix.image_ids[row] for row in found],
            "neighbor_classes": [image_classes[row] for row in found],
            "neighbor_distances": (1 - matrix.neighbours.similarities[query, : len(found)]).tolist(),
        }
    return lists


def _neighbour_classes(lists: Mapping[str, NeighbourList]) -> dict[str, Classes]:
    """The classes of every image that is a neighbour."""
    classes: dict[str, Classes] = {}
    for image_id, each in lists.items():
        ids, theirs, distances = each["neighbor_image_ids"], each["neighbor_classes"], each["neighbor_distances"]
        if not len(ids) == len(theirs) == len(distances):
            raise InvalidRequest(
                f"image {image_id}: {len(ids)} neighbor_image_ids, {len(theirs)} neighbor_classes and"
                f" {len(distances)} neighbor_distances; they must be as many"
            )
        if not any(other != image_id for other in ids):
            raise InvalidRequest(f"image {image_id}: there are no neighbours that could vote")
        for other, its in zip(ids, theirs, strict=True):
            if classes.setdefault(other, its) != its:
                raise InvalidRequest(f"image {image_id}: its neighbour {other} is of class {its}, elsewhere of another")
    return classes


def _others(image_id: str, each: NeighbourList) -> list[tuple[str, float]]:
    """The neighbours of an image without itself, with their distances, nearest first."""
    pairs = zip(each["neighbor_image_ids"], each["neighbor_distances"], strict=True)
    return sorted((pair for pair in pairs if pair[0] != image_id), key=lambda pair: pair[1])


def _labels(classes: Classes) -> Sequence[str]:
    return [classes] if isinstance(classes, str) else classes


def _classes(matrix: NeighbourMatrix, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Classes:
    names = matrix.names(numbers)
    return names[0] if len(names) == 1 else names
