"""Promise 7: a .npy file of anybody's is read within its bytes, or refused with a sentence."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.intake.npy_file import read_npy

MOST = 100
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def saved(array: Any, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def claiming(header: str, data: bytes = b"") -> bytes:
    """A file whose header says what it likes."""
    text = header.encode().ljust(200) + b"\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text + data


def shaped(shape: str, descr: str = "'<f4'") -> bytes:
    return claiming(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", ROWS.tobytes())


@pytest.mark.parametrize(
    "array",
    [ROWS, ROWS.astype(np.float64), ROWS.astype(np.float16), ROWS.astype(">f4"), np.asfortranarray(ROWS)],
    ids=["float32", "float64", "float16", "big-endian", "by columns"],
)
def test_every_kind_of_floats_is_read(array: Any) -> None:
    rows = read_npy(saved(array), MOST)
    assert rows.dtype == np.float32
    assert (rows == ROWS).all()


def test_what_float32_cannot_hold_is_infinite() -> None:
    assert np.isinf(read_npy(saved(np.full((1, 2), 1e300)), MOST)).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no .npy file"),
        (b"\x93NUMPY", "no .npy file"),
        (saved(ROWS)[:40], "no .npy file"),
        (saved(np.array([[{"a": 1}]], object), allow_pickle=True), "object"),
        (saved(ROWS.astype(np.int32)), "int32"),
        (saved(ROWS.astype(np.complex64)), "complex64"),
        (saved(ROWS[0]), r"\(4,\)"),
        (saved(ROWS[None]), r"\(1, 3, 4\)"),
        (saved(np.zeros((3, 4), [("a", "<f4")])), "send a .npy file"),
        (saved(np.empty((0, 4), np.float32)), "0 vectors"),
        (saved(np.empty((3, 0), np.float32)), "not as long"),
        (saved(np.zeros((MOST + 1, 1), np.float32)), "at most 100"),
        (saved(ROWS) + b"\0", "not as long"),
        (saved(ROWS)[:-1], "not as long"),
        (shaped("(4, 4)"), "not as long"),
        (shaped("(3, 10**18)"), "no .npy file"),
        (shaped("(3, 1000000000000000000)"), "not as long"),
        (shaped("(-3, -4)"), "-3 vectors"),
        (shaped("(3, -4)"), "not as long"),
        (shaped("(True, 13)"), "not as long"),
        (shaped("(3.0, 4)"), "no .npy file"),
        (shaped("(3, 4)", "'|V999999999999'"), "no .npy file"),
        (shaped("(3, 4)", "'O'"), "object"),
        (shaped("(3, 4)", "__import__('os')"), "no .npy file"),
        (claiming("(" * 190), "no .npy file"),
        (npy.magic(3, 0) + saved(ROWS)[8:], "no .npy file"),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_npy(data, MOST)


@given(st.data())
def test_a_spoilt_file_is_read_or_refused(data: st.DataObject) -> None:
    file = bytearray(saved(ROWS))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = read_npy(bytes(file), MOST)
    except InvalidRequest:
        return
    assert rows.dtype == np.float32
    assert rows.nbytes <= 2 * len(file)
