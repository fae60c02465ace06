"""Find or build the ICC profile of a picture's colours: embedded profiles, PNG chunks, H.273 code points."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from visual_memory.services.decoding.build_icc_profile import (
    CURVE_NODES,
    MAX_PROFILE_BYTES,
    build_grey_profile,
    build_rgb_profile,
)
from visual_memory.services.decoding.file_formats.png import Png, decompress_profile

_D65 = (0.3127, 0.3290)
_BT709: Sequence[float] = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: Mapping[int, Sequence[float]] = {
    1: _BT709,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""Chromaticities by their code point in ITU-T H.273, table 2."""
_CAMERA_TRANSFERS = (1, 6, 14, 15)
"""Transfer characteristics of cameras (H.273, table 3), which all have one curve."""
_REFERENCE_WHITE = 203.0
"""Luminance of SDR white in a picture of high dynamic range, in cd/m2 (ITU-R BT.2408)."""
_SRGB = b""


def find_profile(picture: PIL.Image.Image, png: Png | None = None) -> bytes:
    """Find the ICC profile of a picture's colours; empty for sRGB, or if the picture does not define any.

    Args:
        picture: as Pillow opened it.
        png: the chunks of a PNG. The most exact one is used: cICP, iCCP, sRGB, and then gAMA with cHRM.
    """
    if png is not None:
        found = (read(png.colours, png.grey) for read in (_cicp, _iccp, _srgb_chunk, _gamma))
        return next((profile for profile in found if profile is not None), _SRGB)
    profile = _jpeg_profile(picture) if isinstance(picture, JpegImageFile) else picture.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return profile if len(profile) <= MAX_PROFILE_BYTES else _SRGB
    match picture.info.get("nclx_profile"):
        case {"color_primaries": int(primaries), "transfer_characteristics": int(transfer)}:
            # Viewers treat a camera's curve as that of a screen.
            grey = picture.mode in ("L", "LA", "La")
            return _code_point_profile(primaries, 13 if transfer in _CAMERA_TRANSFERS else transfer, grey) or _SRGB
    return _SRGB


def _jpeg_profile(picture: JpegImageFile) -> bytes:
    """The profile in the APP2 segments of a JPEG (ICC.1, annex B.4), which may have any order."""
    prefix = b"ICC_PROFILE\0"
    found = [body[len(prefix) :] for name, body in picture.applist if name == "APP2" and body.startswith(prefix)]
    parts = {part[0]: part for part in found if len(part) > 2}
    numbers = list(range(1, len(found) + 1))
    if sorted(parts) != numbers or any(part[1] != len(found) for part in found):
        return _SRGB
    return b"".join(parts[number][2:] for number in numbers)


def _cicp(chunks: Mapping[bytes, bytes], grey: bool) -> bytes | None:
    match tuple(chunks.get(b"cICP", b"")):
        case (primaries, transfer, 0, full):
            return _code_point_profile(primaries, transfer, grey, full_range=bool(full))
    return None


def _iccp(chunks: Mapping[bytes, bytes], _grey: bool) -> bytes | None:
    return decompress_profile(chunks[b"iCCP"]) if b"iCCP" in chunks else None


def _srgb_chunk(chunks: Mapping[bytes, bytes], _grey: bool) -> bytes | None:
    return _SRGB if b"sRGB" in chunks else None


def _gamma(chunks: Mapping[bytes, bytes], grey: bool) -> bytes | None:
    """The profile of gAMA and cHRM; None without gAMA, because primaries need a curve."""
    gamma = int.from_bytes(chunks.get(b"gAMA", b"")) / 100_000
    if not 0.05 <= gamma <= 20:
        return None
    is_srgb_curve = abs(gamma * 2.2 - 1) < 0.05  # files store sRGB as 0.45455
    curve = _srgb_to_linear(_signal()) if is_srgb_curve else _signal() ** (1 / gamma)
    if grey:
        return _SRGB if is_srgb_curve else build_grey_profile(curve)
    chunk = chunks.get(b"cHRM", b"")
    numbers = struct.unpack(">8I", chunk) if len(chunk) == 32 else ()
    chromaticities = tuple(number / 100_000 for number in numbers) or _BT709
    near = np.abs(np.subtract(chromaticities, _BT709)).max() < 0.002
    return _SRGB if is_srgb_curve and near else _rgb_profile(chromaticities, curve)


def _code_point_profile(primaries: int, transfer: int, grey: bool, *, full_range: bool = True) -> bytes | None:
    """The profile of code points (ITU-T H.273); None for unknown ones."""
    signal = _signal() if full_range else np.clip((_signal() * 255 - 16) / 219, 0, 1)
    curve = _linear_light(transfer, signal)
    if curve is None or primaries not in _PRIMARIES:
        return None
    if (primaries, transfer) == (1, 13) and full_range:
        return _SRGB
    return build_grey_profile(curve) if grey else _rgb_profile(_PRIMARIES[primaries], curve)


def _rgb_profile(chromaticities: Sequence[float], curve: NDArray[np.float64]) -> bytes | None:
    try:
        return build_rgb_profile(chromaticities, curve)
    except ValueError:
        return None


def _signal() -> NDArray[np.float64]:
    return np.linspace(0, 1, CURVE_NODES)


def _srgb_to_linear(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB signals (IEC 61966-2-1)."""
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _linear_light(transfer: int, signal: NDArray[np.float64]) -> NDArray[np.float64] | None:  # noqa: PLR0911
    """Linear light of signals from 0 to 1 (H.273, table 3), where 1 is a screen's white; None for an unknown transfer.

    High dynamic range exceeds 1, which is shown as white.
    """
    match transfer:
        case 1 | 6 | 14 | 15:
            return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))
        case 4:
            return signal**2.2
        case 5:
            return signal**2.8
        case 7:
            return np.where(signal < 0.0913, signal / 4, ((signal + 0.1115) / 1.1115) ** (1 / 0.45))
        case 8:
            return signal
        case 13:
            return _srgb_to_linear(signal)
        case 16:
            root = signal ** (32 / 2523)
            light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
            return light ** (8192 / 1305) * 10_000 / _REFERENCE_WHITE
        case 17:
            return signal**2.6 * 52.37 / 48
        case 18:
            scene = np.where(
                signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
            )
            return scene**1.2 * 1000 / _REFERENCE_WHITE
    return None
