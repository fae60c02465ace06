"""Read the array of an untrusted ``.npy`` file: its header is checked against its size."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.lib import format as npy

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.vector_engines.engine_contract import Vectors

WANTED = "send a .npy file of float32, float64 or float16 [n, d], as numpy.save writes it"
_HEADERS: Mapping[tuple[int, int], Callable[..., tuple[object, bool, np.dtype[np.generic]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_npy(data: bytes, max_rows: int) -> Vectors:
    """Read the rows of a file, without a copy if they are float32 already.

    Args:
        data: the whole file; nothing in it is executed.
        max_rows: the largest number of rows.

    Returns:
        float32 [n, d]; numbers beyond the range of float32 are infinite.

    Raises:
        InvalidRequest: it is no ``.npy`` file, contains something else, or has more rows.
    """
    file = io.BytesIO(data)
    try:
        shape, fortran, dtype = _HEADERS[npy.read_magic(file)](file)
    except Exception:  # noqa: BLE001 - headers are parsed as Python literals, which fails in many ways
        raise InvalidRequest(f"the vectors are no .npy file: {WANTED}") from None
    match shape:
        case (int(rows), int(numbers)) if dtype.kind == "f" and dtype.itemsize <= np.float64().itemsize:
            rows, numbers = int(rows), int(numbers)  # True is an int too
        case _:
            raise InvalidRequest(f"the vectors are {dtype.name} {shape}: {WANTED}"[:200])
    if not 1 <= rows <= max_rows:
        raise InvalidRequest(f"{rows} vectors came: send at least 1 and at most {max_rows} at once")
    if numbers < 1 or len(data) - file.tell() != rows * numbers * dtype.itemsize:
        raise InvalidRequest(f"the file is not as long as its header says, {rows} x {numbers} {dtype.name}: {WANTED}")
    flat = np.frombuffer(data, dtype, offset=file.tell())
    with np.errstate(over="ignore"):
        return flat.reshape((rows, numbers), order="F" if fortran else "C").astype(np.float32, order="C", copy=False)
