"""Compare kinds of pictures: pixels of an earlier version, of this version, and of a viewer.

``python -m benchmarks.kinds_of_picture`` makes a real file of every kind, and writes the table into the page beside it.
What was seen before is what the code of a commit makes of the same file, with no change to it. A viewer's colours are
worked out from what went into the file, by the formulas of the standards.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tests.support.colour_profiles import (
    ADOBE,
    BT2020,
    P3,
    SRGB,
    SWAPPED,
    chrm,
    chunk,
    cicp,
    cmyk_profile,
    gama,
    grey,
    iccp,
    png,
    power,
    profile,
    screen,
    seen,
)
from tests.support.damaged_pictures import packed, quarters
from tests.support.tiff_writer import DEFLATE, LZW, Written, tiff
from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode

BEFORE = "da01a73"
"""The last commit with preprocessing 1."""
PAGE = Path(__file__).parent / "README.md"
START, END = "<!-- kinds of pictures -->", "<!-- /kinds of pictures -->"
LIMITS = PictureLimits(20 * 2**20, 50_000_000)
NEAR = 4
"""Levels of 255 by which lossy files may differ from their source."""
OLD = """
import base64, json, sys
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.schemas.errors import VisualMemoryError
for line in sys.stdin:
    asked = json.loads(line)
    try:
        picture = decode(base64.b64decode(asked["data"]), PictureLimits(20 * 2**20, 50_000_000))
        print(json.dumps([picture.getpixel(tuple(at)) for at in asked["places"]]))
    except VisualMemoryError as error:
        print(json.dumps(error.message))
"""

ORDERS: tuple[tuple[Literal["<", ">"], str], ...] = (("<", "little-endian"), (">", "big-endian"))
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: what people call it.
        data: its file.
        viewer: the colours that a viewer shows at its places, or what is to be said of it.
        places: where one looks, from the upper left.
    """

    name: str
    data: bytes
    viewer: list[Colour] | str
    places: tuple[tuple[int, int], ...] = ((8, 8),)


def kinds() -> list[Kind]:
    """Every colour meaning, and every defect of a file that viewers tolerate."""
    return [*_profiles(), *_chunks(), *_numbers(), *_boxes(), *_odd()]


def _swatch(colour: int | tuple[int, ...], mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.new(mode, (64, 64), colour)


def _profiles() -> list[Kind]:
    lossless: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "PNG": {},
        "TIFF": {},
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "HEIF": {"quality": -1, "chroma": 444},
    }
    names = {"WEBP": "WebP", "HEIF": "HEIC"}
    red = _swatch((255, 0, 0))
    swapped = [
        Kind(
            f"{names.get(kind, kind)}, red whose profile swaps red and green",
            packed(red, kind, icc_profile=profile(SWAPPED), **options),
            [(0, 255, 0)],
        )
        for kind, options in lossless.items()
    ]
    orange = (230, 120, 40)
    wide = [
        Kind(
            f"JPEG in {name}",
            packed(_swatch(orange), "JPEG", icc_profile=profile(space, curve), **lossless["JPEG"]),
            [_one(seen(np.array([orange]), space, curve))],
        )
        for name, space, curve in (("Display P3", P3, screen), ("Adobe RGB", ADOBE, power(563 / 256)))
    ]
    inks = [(0.02, 0.6, 0.9), (0.9, 0.02, 0.5), (1.0, 0.9, 0.02), (0.02, 0.02, 0.02)]
    cmyk = [
        Kind(
            f"{kind} in CMYK with a press's profile, solid magenta",
            packed(_swatch((0, 255, 0, 0), "CMYK"), kind, icc_profile=cmyk_profile(inks)),
            [_one(seen(np.array([inks[1]]) * 255, SRGB, power(1)))],
        )
        for kind in ("JPEG", "TIFF")
    ]
    return [
        *swapped,
        *wide,
        *cmyk,
        Kind(
            "grey JPEG of linear light", packed(_swatch(128, "L"), "JPEG", icc_profile=grey(power(1))), [_level(128, 1)]
        ),
        Kind(
            "palette PNG, red whose profile swaps",
            packed(red.quantize(2), "PNG", icc_profile=profile(SWAPPED)),
            [(0, 255, 0)],
        ),
        Kind("PNG with a damaged profile", packed(red, "PNG", icc_profile=profile(SWAPPED)[:200]), [(255, 0, 0)]),
        Kind(
            "grey PNG with a profile of RGB",
            packed(_swatch(128, "L"), "PNG", icc_profile=profile(SWAPPED)),
            [(128,) * 3],
        ),
    ]


def _chunks() -> list[Kind]:
    red, middle = np.full((16, 16, 3), (255, 0, 0), np.uint8), np.full((16, 16), 128, np.uint8)
    deep = np.full((16, 16), 3 * 257, np.uint16)
    orange = np.full((16, 16, 3), (230, 120, 40), np.uint8)
    return [
        Kind("PNG, gAMA 1.0, middle grey", png(middle, [gama(1)]), [_level(128, 1)]),
        Kind(
            "PNG, gAMA 1/1.8 and cHRM of Display P3",
            png(orange, [gama(1 / 1.8), chrm(P3)]),
            [_one(seen(orange[0, :1], P3, power(1.8)))],
        ),
        Kind("PNG of 16 bits, gAMA 1.0, level 771 of 65,535", png(deep, [gama(1)]), [_level(3, 1)]),
        Kind("PNG, cICP of BT.2020", png(orange, [cicp(9, 13)]), [_one(seen(orange[0, :1], BT2020, screen))]),
        Kind(
            "PNG, cICP of PQ, white of 203 cd/m2",
            png(np.full((16, 16), 148, np.uint8), [cicp(9, 16)]),
            [(255, 255, 255)],
        ),
        Kind("PNG, cICP before a profile that swaps", png(red, [iccp(profile(SWAPPED)), cicp(1, 13)]), [(255, 0, 0)]),
        Kind("PNG, chunk sRGB before gAMA 1.0", png(middle, [chunk(b"sRGB", b"\0"), gama(1)]), [(128, 128, 128)]),
    ]


def _numbers() -> list[Kind]:
    rows: dict[str, NDArray[Any]] = {
        "16 bits": np.array([0, 16384, 65535], np.uint16),
        "32 bits": np.array([0, 2**30, 2**32 - 1], np.uint32),
        "signed 8 bits": np.array([-128, -64, 127], np.int8),
        "signed 16 bits": np.array([-32768, -16384, 32767], np.int16),
        "floats": np.array([0, 0.25, 1], np.float32),
    }
    three = ((0, 0), (1, 0), (2, 0))
    found = []
    for name, values in rows.items():
        pixels = np.repeat(values[None], 3, axis=0)
        for order, said in ORDERS:
            for white in (False, True):
                how = Written(order=order, photometric=0 if white else 1, compression=LZW)
                levels = [255, 191, 0] if white else [0, 64, 255]
                polarity = "min-is-white" if white else "min-is-black"
                data = tiff(pixels, how)
                found.append(Kind(f"TIFF of {name}, {said}, {polarity}, LZW", data, [(v, v, v) for v in levels], three))
    colours = np.array([[[1, 0, 0], [0, 0.5, 0], [0, 0, 0.25]]], np.float32)
    expected: list[Colour] = [(255, 0, 0), (0, 128, 0), (0, 0, 64)]
    for name, how in (
        ("tiles", Written(photometric=2, tile=16)),
        ("differences of bytes", Written(photometric=2, compression=DEFLATE, predictor=3, order=">")),
        ("planes", Written(photometric=2, planar=True)),
    ):
        found.append(Kind(f"TIFF of RGB floats, {name}", tiff(colours, how), expected, three))
    twelve = np.array([[0, 1024, 4095]], np.uint16)
    found.append(
        Kind(
            "TIFF of 12 bits, big-endian",
            tiff(twelve, Written(order=">", bits=12)),
            [(0,) * 3, (64,) * 3, (255,) * 3],
            three,
        )
    )
    apart = (np.array([[[255, 0, 0], [0, 128, 0], [0, 0, 64]]]) * 257).astype(np.uint16)
    found.append(
        Kind("TIFF of RGB, 16 bits, planes", tiff(apart, Written(photometric=2, planar=True)), expected, three)
    )
    return found


def _boxes() -> list[Kind]:
    large = quarters().resize((480, 320))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    corners: list[Colour] = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    places = ((40, 40), (440, 40), (40, 280), (440, 280))
    turned, sides = [corners[2], corners[0], corners[3], corners[1]], ((40, 40), (280, 40), (40, 440), (280, 440))
    found = []
    for name, kind in (("AVIF", "AVIF"), ("HEIC", "HEIF")):
        found += [
            Kind(name, packed(large, kind), corners, places),
            Kind(f"{name}, held sideways", packed(large, kind, exif=exif.tobytes()), turned, sides),
            Kind(f"{name}, half transparent", packed(_swatch((255, 0, 0, 128), "RGBA"), kind), [(255, 127, 127)]),
        ]
    deep = PIL.Image.fromarray(np.full((64, 64), 16448, np.uint16))
    return [
        *found,
        Kind("HEIC in tiles, as a phone's", packed(large, "HEIF", tile_size=128), corners, places),
        Kind("HEIC of 10 bits", packed(deep, "HEIF", quality=-1), [(64, 64, 64)]),
    ]


def _odd() -> list[Kind]:
    red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    text = chunk(b"tEXt", b"Comment\0" + b"words " * 400_000)
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26)))
    late = chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(2**21)))
    jpeg = packed(_swatch((255, 0, 0)), "JPEG", subsampling=0, quality=95)
    shades = packed(PIL.Image.effect_noise((64, 64), 90), "JPEG")
    return [
        Kind("PNG with a text of 2.4 MB", png(red, [text]), [(255, 0, 0)]),
        Kind("PNG with a packed text of 64 MiB", png(red, [bomb]), [(255, 0, 0)]),
        Kind("PNG with iTXt of 2 MiB after its pixels", png(red, (), [late]), [(255, 0, 0)]),
        Kind("PNG with a profile of 4 MiB", png(red, [iccp(profile(SWAPPED) + bytes(2**22))]), [(0, 255, 0)]),
        Kind("PNG with a wrong sum in its comment", png(red, [text[:-1] + b"?"]), [(255, 0, 0)]),
        Kind("JPEG that lacks only its end marker", jpeg[:-2], [(255, 0, 0)]),
        Kind("JPEG that lacks half of its pixels", shades[: len(shades) // 2], "damaged or ends too early"),
        Kind("JPEG XL", b"\xff\x0a\xfa\x1f\x01\x90" + bytes(64), "JPEG XL"),
        Kind("JPEG 2000", packed(_swatch((255, 0, 0)), "JPEG2000"), "JPEG 2000"),
    ]


def _level(value: int, exponent: float) -> Colour:
    return _one(seen(np.array([[value] * 3]), SRGB, power(exponent)))


def _one(found: NDArray[np.uint8]) -> Colour:
    red, green, blue = found.reshape(-1, 3)[0].tolist()
    return red, green, blue


def now(kind: Kind) -> list[Colour] | str:
    """The pixels of this version."""
    try:
        picture = decode(kind.data, LIMITS)
    except VisualMemoryError as error:
        return error.message
    return [picture.getpixel(at) for at in kind.places]  # type: ignore[misc]


def before(asked: list[Kind]) -> list[list[Colour] | str]:
    """The pixels of an earlier commit."""
    import base64

    said = [json.dumps({"data": base64.b64encode(kind.data).decode(), "places": kind.places}) for kind in asked]
    archive = subprocess.run(["git", "archive", BEFORE, "schemas", "services"], capture_output=True, check=True)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        ended = subprocess.run(
            [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {folder!r})\n{OLD}"],
            input="\n".join(said),
            capture_output=True,
            text=True,
            check=True,
        )
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    return [each if isinstance(each, str) else [tuple(colour) for colour in each] for each in answers]


def is_right(found: list[Colour] | str, viewer: list[Colour] | str) -> bool:
    """Whether the pixels match a viewer's, or the refusal is justified."""
    if isinstance(found, str) or isinstance(viewer, str):
        return isinstance(found, str) and isinstance(viewer, str) and viewer in found
    return bool(np.abs(np.subtract(found, viewer)).max() <= NEAR)


def _said(found: list[Colour] | str, viewer: list[Colour] | str) -> str:
    mark = "" if is_right(found, viewer) else " ✗"
    return (found if isinstance(found, str) else "; ".join(", ".join(map(str, colour)) for colour in found)) + mark


def main() -> None:
    """Write the table."""
    asked = kinds()
    lines = ["| picture | seen before | seen now | a viewer shows |", "|---|---|---|---|"]
    right = [0, 0]
    for kind, old in zip(asked, before(asked), strict=True):
        new = now(kind)
        right[0] += is_right(old, kind.viewer)
        right[1] += is_right(new, kind.viewer)
        shown = f"refused: {kind.viewer}" if isinstance(kind.viewer, str) else _said(kind.viewer, kind.viewer)
        lines.append(f"| {kind.name} | {_said(old, kind.viewer)} | {_said(new, kind.viewer)} | {shown} |")
    counts = (
        f"{right[1]} of {len(asked)} are now what a viewer shows, within {NEAR} levels of 255; before, {right[0]} were."
    )
    text = PAGE.read_text()
    if START not in text:
        text += f"\n## Kinds of pictures\n\n{START}\n{END}\n"
    head, rest = text.split(START)
    note = "Red, green and blue at one or several places; ✗ where it is not what a viewer shows."
    page = f"`python -m benchmarks.kinds_of_picture`: {counts} {note}\n\n" + "\n".join(lines)
    PAGE.write_text(f"{head}{START}\n{page}\n{END}{rest.split(END)[1]}")
    print(page)


if __name__ == "__main__":
    main()
