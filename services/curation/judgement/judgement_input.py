"""The input of a judgement: the images with their neighbours, stored for the next judgement to begin with."""

import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.curation.judgement.neighbour_lists import Mask, NeighbourLists

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class JudgementInput:
    """Images with their neighbours, by ascending id, so that the result does not depend on the order of arrival.

    Attributes:
        read_at: when the pass began to read the images.
        image_ids: of n images.
        labels: of the same images.
        pictures: uint64 [n], digests of the keys of their pictures. A key is new for each accepted picture, so it
            distinguishes images that had the same id one after the other.
        contents: uint64 [n], digests of their content hashes; copies of one content share one vote.
        votes: [n], whether each image votes. Images that do not vote were muted for wrong votes, and stay here so that
            their wrong votes can be counted again.
        lists: the neighbours of each image, voting or not.
    """

    read_at: datetime
    image_ids: Sequence[str]
    labels: Sequence[list[str]]
    pictures: Digests
    contents: Digests
    votes: Mask
    lists: NeighbourLists

    @classmethod
    def of_none(cls, read_at: datetime) -> "JudgementInput":
        """The input of an empty memory."""
        nothing = np.empty(0, np.uint64)
        return cls(read_at, [], [], nothing, nothing, np.empty(0, bool), NeighbourLists.of_none())

    def where(self, mask: Mask) -> "JudgementInput":
        """The images of a mask [n], with the neighbours that are in it too."""
        if mask.all():
            return self
        return replace(
            self,
            image_ids=[image_id for image_id, each in zip(self.image_ids, mask, strict=True) if each],
            labels=[labels for labels, each in zip(self.labels, mask, strict=True) if each],
            pictures=self.pictures[mask],
            contents=self.contents[mask],
            votes=self.votes[mask],
            lists=self.lists.where(mask),
        )

    def voting(self) -> "JudgementInput":
        """The images that vote."""
        return self.where(self.votes)

    def rows_by_id(self) -> dict[str, int]:
        """The row of each image id."""
        return {image_id: row for row, image_id in enumerate(self.image_ids)}

    def without(self, image_ids: Collection[str]) -> "JudgementInput":
        """All images except some."""
        excluded = {*image_ids}
        return self.where(np.fromiter((each not in excluded for each in self.image_ids), bool, len(self.image_ids)))

    def to_bytes(self) -> bytes:
        """Serialise in the format of `numpy.savez`; vectors are not included."""
        named = {"read_at": self.read_at.isoformat(), "image_ids": list(self.image_ids), "labels": list(self.labels)}
        file = io.BytesIO()
        np.savez(
            file,
            named=np.frombuffer(json.dumps(named, ensure_ascii=False).encode(), np.uint8),
            pictures=self.pictures,
            contents=self.contents,
            votes=self.votes,
            similarities=self.lists.similarities,
            rows=self.lists.rows,
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "JudgementInput":
        """Parse what `to_bytes` returned.

        Raises:
            ValueError, KeyError, zipfile.BadZipFile: the data is anything else.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            named = json.loads(arrays["named"].tobytes())
            lists = NeighbourLists(arrays["similarities"], arrays["rows"])
            return cls(
                datetime.fromisoformat(named["read_at"]),
                named["image_ids"],
                named["labels"],
                arrays["pictures"],
                arrays["contents"],
                arrays["votes"],
                lists,
            )


def short_digest(text: str) -> np.uint64:
    """A digest of eight bytes, of a picture's key or of a content hash."""
    return np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest()))
