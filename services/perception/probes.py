"""Pictures made by code that are as hard for a coarse network as photographs are.

The hard ones are smooth: where a network's first layers take differences of neighbours, a rounded weight lets through
some of the brightness, and in a sky there is little else. So half of the probes are faint or smooth, the others are
full of edges.
"""

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

SIDE = 256
KINDS = 4


def probes(number: int) -> list[PIL.Image.Image]:
    """So many pictures of mode RGB, 256 x 256, always the same: clouds, skies, leaves and pages in turn."""
    chance = np.random.default_rng(0)
    draw = (_clouds, _sky, _leaves, _page)
    return [draw[place % KINDS](chance) for place in range(number)]


def _clouds(chance: np.random.Generator) -> PIL.Image.Image:
    """Noise with the spectrum of photographs, amplitude 1 / frequency to 1 / frequency ** 2, of any contrast."""
    return _coloured(_noise(chance, chance.uniform(1, 2)), chance, chance.uniform(5, 60))


def _sky(chance: np.random.Generator) -> PIL.Image.Image:
    """A bright slope from above to below, with faint noise."""
    slope = np.linspace(-1, 1, SIDE)[:, None] * chance.uniform(0, 40)
    return _coloured(slope + _noise(chance, 1) * chance.uniform(0.5, 4), chance, 1)


def _leaves(chance: np.random.Generator) -> PIL.Image.Image:
    """Discs and boxes of all sizes that cover each other, a textbook model of photographs."""
    image = PIL.Image.new("RGB", (SIDE, SIDE))
    pen = PIL.ImageDraw.Draw(image)
    for size in (8 / chance.uniform(0.04, 1, 300)).tolist():
        x, y = chance.uniform(-20, SIDE, 2).tolist()
        shape = pen.ellipse if chance.random() < 0.5 else pen.rectangle
        shape((x, y, x + size, y + size), fill=tuple(chance.integers(0, 256, 3).tolist()))
    return image


def _page(chance: np.random.Generator) -> PIL.Image.Image:
    """Lines of short dark strokes on bright paper."""
    paper, ink = chance.integers(200, 256), chance.integers(0, 80)
    image = PIL.Image.new("RGB", (SIDE, SIDE), (int(paper),) * 3)
    pen = PIL.ImageDraw.Draw(image)
    for line in range(12, SIDE - 16, 18):
        for x in np.cumsum(chance.uniform(3, 12, 40)).tolist():
            pen.line((x, line, x + chance.uniform(-4, 4), line + chance.uniform(2, 12)), fill=(int(ink),) * 3, width=2)
    return image


def _noise(chance: np.random.Generator, falls: float) -> NDArray[np.float64]:
    """Noise of deviation 1, [256, 256], whose amplitude falls with this power of the frequency."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    frequency[0, 0] = np.inf
    shaped = np.fft.irfft2(np.fft.rfft2(chance.normal(size=(SIDE, SIDE))) / frequency**falls)
    noise: NDArray[np.float64] = shaped / shaped.std()
    return noise


def _coloured(grey: NDArray[np.float64], chance: np.random.Generator, contrast: float) -> PIL.Image.Image:
    """A picture around some colour."""
    colour = chance.uniform(40, 230, 3) + contrast * grey[..., None] * chance.uniform(0.5, 1, 3)
    return PIL.Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
