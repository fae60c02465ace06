"""Cache a model's answers to identical questions, in the memory of one process.

An entry holds a digest of the question and the label that was answered, and nothing of a picture. The digest covers the
ids and pictures of the neighbours that the search found. So an answer is not found any more once one of them is
removed, or has another picture or label; this holds in every process. The process that carries out a removal also
drops all answers of the tenant. Other processes may keep digest and label until newer entries replace them.
"""

from collections import OrderedDict
from hashlib import sha256
from threading import Lock


class AnswerCache:
    """An LRU cache of the answers of every tenant.

    Args:
        size: the most answers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._labels: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = Lock()

    def get(self, tenant: str, question: str) -> str | None:
        """The cached label for a question's digest, or None."""
        with self._lock:
            label = self._labels.get((tenant, question))
            if label is not None:
                self._labels.move_to_end((tenant, question))
            return label

    def put(self, tenant: str, question: str, label: str) -> None:
        """Cache an answer."""
        with self._lock:
            self._labels[tenant, question] = label
            self._labels.move_to_end((tenant, question))
            while len(self._labels) > self._size:
                self._labels.popitem(last=False)

    def delete(self, tenant: str) -> None:
        """Drop all answers of a tenant."""
        with self._lock:
            for entry in [entry for entry in self._labels if entry[0] == tenant]:
                del self._labels[entry]


def digest(*question: object) -> str:
    """The digest of a question's parts."""
    return sha256(repr(question).encode()).hexdigest()
