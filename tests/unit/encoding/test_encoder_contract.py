import numpy as np
import pytest
from numpy.typing import NDArray

from visual_memory.services.encoding.encoder_contract import EncoderUnusable, check_vectors

GOOD = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)


def test_unit_vectors_pass_unchanged() -> None:
    assert np.array_equal(check_vectors(GOOD, "e", 2, 2), GOOD)
    assert check_vectors(GOOD.astype(np.float64), "e", 2, 2).dtype == np.float32
    assert check_vectors(GOOD[:0], "e", 0, 2).shape == (0, 2)
    assert np.array_equal(check_vectors(GOOD * np.float32(1.0009), "e", 2, 2), GOOD * np.float32(1.0009))


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (GOOD[:1], "shape"),
        (GOOD[:, :1], "shape"),
        (GOOD.ravel(), "shape"),
        (np.array([[np.nan, 0], [1, 0]], np.float32), "not finite"),
        (np.array([[np.inf, 0], [1, 0]], np.float32), "not finite"),
        (np.array([[1, 0], [0, 0]], np.float32), "all zeros"),
        (GOOD * np.float32(1.002), "length 1.0020"),
        (GOOD * np.float32(0.5), "length 0.5"),
    ],
)
def test_anything_else_is_refused_with_its_reason(vectors: NDArray[np.float32], reason: str) -> None:
    with pytest.raises(EncoderUnusable, match=f"^e gave.*{reason}"):
        check_vectors(vectors, "e", 2, 2)
