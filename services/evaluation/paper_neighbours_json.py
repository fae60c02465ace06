"""Neighbours in the JSON format of the paper's authors: one object, the neighbours of each image by the image's id."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from visual_memory.schemas.errors import InvalidRequest, sentence
from visual_memory.schemas.evaluation_results import NeighbourList
from visual_memory.schemas.strict_json import check_keys
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, build_neighbour_matrix
from visual_memory.services.voting.exact_neighbours import MISSING
from visual_memory.services.voting.image_reliability import HARD_K

Classes = str | list[str]


def read(path: Path) -> dict[str, NeighbourList]:
    """The lists of a file. Ids and classes may be numbers; each becomes its digits.

    Raises:
        InvalidRequest: it is not in the authors' format; the message names the place.
        OSError: it cannot be read.
    """
    try:
        lists = TypeAdapter(dict[str, NeighbourList]).validate_json(data := path.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(f"{path}: {sentence(fault['loc'], fault['msg'])}") from None
    check_keys(data)
    return lists


def matrix_from_lists(lists: Mapping[str, NeighbourList]) -> NeighbourMatrix:
    """The queries and neighbours of such lists, the 100 nearest of each; nobody is a neighbour of itself.

    Raises:
        InvalidRequest: there are no lists, one has no neighbours, or they contradict each other.
    """
    encoders = sorted({each["featurizer"] for each in lists.values()})
    if len(encoders) != 1:
        raise InvalidRequest(f"neighbours of one featurizer are expected, not of {len(encoders)}: {encoders[:5]}")
    classes = _classes(lists)
    itself = classes.keys() <= lists.keys()
    images = list(lists if itself else classes)
    number = {image_id: row for row, image_id in enumerate(images)}
    width = min(HARD_K, max(len(each["neighbor_image_ids"]) for each in lists.values()))
    similarities, rows = np.full((len(lists), width), -1.0), np.full((len(lists), width), MISSING)
    for place, (image_id, each) in enumerate(lists.items()):
        others = [(number[other], distance) for other, distance in _others(image_id, each)][:width]
        rows[place, : len(others)] = [other for other, _ in others]
        similarities[place, : len(others)] = [1 - distance for _, distance in others]
    asked = [_labels(each["image_class"]) for each in lists.values()]
    known = asked if itself else [_labels(classes[image_id]) for image_id in images]
    used = (rows != MISSING).sum(axis=0).astype(bool)
    voters = Neighbours.equal(similarities[:, used], rows[:, used])
    return build_neighbour_matrix(encoders[0], (list(lists), asked), (images, known), voters, itself=itself)


def matrix_to_lists(study: NeighbourMatrix) -> dict[str, NeighbourList]:
    """The neighbours of a study, as the authors would write them; an image with several labels has a list of them."""
    asked = [_names(study, numbers) for numbers in study.truth]
    known = [_names(study, numbers) for numbers in study.votes_for[:-1]]
    lists: dict[str, NeighbourList] = {}
    for place, image_id in enumerate(study.query_ids):
        rows = study.voters.rows[place]
        held = rows[rows != MISSING].tolist()
        lists[image_id] = {
            "featurizer": study.encoder,
            "image_id": image_id,
            "image_class": asked[place],
            "neighbor_image_ids": [study.image_ids[row] for row in held],
            "neighbor_classes": [known[row] for row in held],
            "neighbor_distances": (1 - study.voters.similarities[place, : len(held)]).tolist(),
        }
    return lists


def _classes(lists: Mapping[str, NeighbourList]) -> dict[str, Classes]:
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
    """The neighbours of an image without itself, with their distances, the nearest first."""
    pairs = zip(each["neighbor_image_ids"], each["neighbor_distances"], strict=True)
    return sorted((pair for pair in pairs if pair[0] != image_id), key=lambda pair: pair[1])


def _labels(classes: Classes) -> Sequence[str]:
    return [classes] if isinstance(classes, str) else classes


def _names(study: NeighbourMatrix, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Classes:
    names = study.names(numbers)
    return names[0] if len(names) == 1 else names
