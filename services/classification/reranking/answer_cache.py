"""Answers at hand: what a model answered to the very same question, kept in the memory of one process.

An entry is a digest of the question and the label that was answered: nothing of a picture. The digest covers the ids
and pictures of the neighbours as a search has just found them, so what was answered beside an image that is gone, or
that has another picture or label by now, is never found again, in whatever process. Where a removal is carried out,
its tenant's answers are dropped at once; other processes may hold digest and label until newer ones take their place.
"""

from collections import OrderedDict
from hashlib import sha256
from threading import Lock


class AnswerCache:
    """The latest answers, of every tenant.

    Args:
        size: how many are kept; the one that was not asked for the longest goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._labels: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = Lock()

    def get(self, tenant: str, question: str) -> str | None:
        """The label that was answered to a question of this digest, if it is at hand."""
        with self._lock:
            label = self._labels.get((tenant, question))
            if label is not None:
                self._labels.move_to_end((tenant, question))
            return label

    def put(self, tenant: str, question: str, label: str) -> None:
        """Keep an answer."""
        with self._lock:
            self._labels[tenant, question] = label
            self._labels.move_to_end((tenant, question))
            while len(self._labels) > self._size:
                self._labels.popitem(last=False)

    def forget(self, tenant: str) -> None:
        """Drop all answers of a tenant."""
        with self._lock:
            for entry in [entry for entry in self._labels if entry[0] == tenant]:
                del self._labels[entry]


def digest(*question: object) -> str:
    """What a question is found by: a digest of all that it is made of."""
    return sha256(repr(question).encode()).hexdigest()
