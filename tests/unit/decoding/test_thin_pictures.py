"""Promise 7: a small file of a thin picture takes little memory in the decoder's child, and beside the encoder."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import PIL.Image
import psutil
import pytest
from transformers import Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.support.damaged_pictures import packed
from tests.support.failing_decoder import decoders
from tests.support.tiny_encoders import FAMILIES, IMAGE_TOWER, Family, cls, saved
from visual_memory.services.bootstrap.wiring.wire_memory import SLICE_BYTES, slice_size
from visual_memory.services.decoding.decode_many import BYTES_PER_PIXEL, Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoding.huggingface_models import DEFAULT_SIDE
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.encoding.transformers_preprocessing import take_over_resize
from visual_memory.services.settings import EncoderSettings

LIMITS = PictureLimits(2**20, 50_000_000)
LONGEST = {"PNG": 100_000, "TIFF": 100_000, "BMP": 100_000, "JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}
CHILD = 48 * 2**20
"""Bytes that the child may take for one of them; the thinnest, made 256 wide before it is cut, would take 26 GB."""
ENCODER = 64 * 2**20
"""Bytes that an encoder may take for one of them."""
PROCESSORS: dict[str, Callable[[], Any]] = {
    "CLIP": CLIPImageProcessorPil,
    "DINOv2": lambda: BitImageProcessorPil(size={"shortest_edge": 256}),
    "DINOv2 without a crop": lambda: BitImageProcessorPil(size={"shortest_edge": 256}, do_center_crop=False),
    "SigLIP": SiglipImageProcessorPil,
    "SigLIP 2 of any shape": Siglip2ImageProcessorPil,
    "ViT": ViTImageProcessorPil,
    "ConvNeXt with a crop": lambda: ConvNextImageProcessorPil(size={"shortest_edge": 224}),
    "ConvNeXt": ConvNextImageProcessorPil,
    "EfficientNet": EfficientNetImageProcessorPil,
    "LeViT": LevitImageProcessorPil,
}
"""With the sizes that they are published with."""


def uncropped(folder: Path) -> Family:
    model = Dinov2Model(Dinov2Config.from_dict(IMAGE_TOWER | {"mlp_ratio": 2}))
    return saved(folder, model, BitImageProcessorPil(size={"shortest_edge": 28}, do_center_crop=False), cls)


ENCODERS = FAMILIES | {"built in": None, "dinov2 without a crop": uncropped}


class Decoding:
    """A decoder with one child, whose memory is watched."""

    def __init__(self, sandbox: SandboxPool, pool: ThreadPoolExecutor) -> None:
        self.sandbox, self.pool = sandbox, pool
        before = {each.pid for each in decoders(psutil.Process().pid)}
        self.one(packed(PIL.Image.new("RGB", (1, 1)), "PNG"), NO_CROP)
        [self.child] = (each for each in decoders(psutil.Process().pid) if each.pid not in before)

    def one(self, data: bytes, crop: PreprocessingCrop) -> PIL.Image.Image:
        return Decoder(self.sandbox, self.pool, crop).decode_one("a", data)

    def peak(self) -> int:
        return peak(self.child.pid)


@pytest.fixture(scope="module")
def decoding() -> Iterator[Decoding]:
    sandbox = SandboxPool(LIMITS, 30, 1)
    with ThreadPoolExecutor(1) as pool:
        yield Decoding(sandbox, pool)
    sandbox.close()


def peak(process: int | Literal["self"]) -> int:
    """The most memory that a process ever had, or since it was made to forget it; in bytes."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def forget_peak() -> int:
    """From now on `peak` of this process is that of what follows; the memory that it has."""
    Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def thin(kind: str = "PNG") -> list[bytes]:
    """Of both orientations, 14 : 1 and the thinnest that the format holds; the first is the smallest file."""
    sizes = [(1, LONGEST[kind]), (LONGEST[kind], 1), (14, 1), (70, 980), (980, 70)]
    files = [packed(PIL.Image.linear_gradient("L").resize(size).convert("RGB"), kind) for size in sizes]
    return [packed(PIL.Image.new("RGB", sizes[0]), kind), *files]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", LONGEST)
def test_the_child_takes_little_and_hands_little_over(decoding: Decoding, kind: str, version: Literal[1, 2]) -> None:
    before = decoding.peak()
    crops = [PreprocessingCrop(side, crop, version) for side, crop in ((256, 224), (256, 0), (518, 0), (1024, 0))]
    for crop in [*crops, *([PreprocessingCrop(384, squash=True)] if version == 2 else [])]:
        for data in thin(kind):
            found = decoding.one(data, crop)
            assert max(found.size) <= 8 * min(found.size)
            assert found.width * found.height <= crop.max_pixels()
    assert decoding.peak() - before <= CHILD
    assert decoding.child.is_running(), "it outlives all of them"


def test_nothing_larger_than_said_is_handed_over(decoding: Decoding) -> None:
    """Nor of the largest that are taken: 50 megapixels, of the worst proportions."""
    crops = (
        PreprocessingCrop(256, 224),
        PreprocessingCrop(518, 518),
        PreprocessingCrop(256),
        PreprocessingCrop(384, squash=True),
        PreprocessingCrop(256, version=1),
    )
    tried = {(20_000, 2_500): crops, (2_500, 20_000): crops[2:3], (7_071, 7_071): crops[1:2], (50_000, 1_000): crops}
    for size, some in tried.items():
        data = packed(PIL.Image.new("L", size), "PNG")
        for crop in some:
            found = decoding.one(data, crop)
            assert found.width * found.height <= crop.max_pixels()
            assert 3 * crop.max_pixels() <= 2**24 or crop.crop_side == 518, "a few MB"


@pytest.mark.parametrize("preprocessing", [1, 2])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_family_embeds_them_in_little_memory(
    decoding: Decoding, tmp_path: Path, name: str, preprocessing: Literal[1, 2]
) -> None:
    build = ENCODERS[name]
    if build is not None:
        build(tmp_path)
    settings = EncoderSettings(name=None if build is None else str(tmp_path), precision="float32", batch_size=2)
    encoder = load_encoder(settings, identify(settings, preprocessing))
    pictures = [decoding.one(data, encoder.crop) for data in thin()]
    encoder.encode([pictures[-1]])
    before = forget_peak()
    for picture in pictures:
        assert np.isfinite(encoder.encode([picture])).all()
    assert peak("self") - before <= ENCODER


@pytest.mark.parametrize("preprocessing", [1, 2])
def test_pictures_of_which_nothing_is_cut_are_embedded_side_by_side(
    tmp_path: Path, preprocessing: Literal[1, 2]
) -> None:
    uncropped(tmp_path)
    settings = EncoderSettings(name=str(tmp_path), precision="float32", batch_size=2)
    encoder = load_encoder(settings, identify(settings, preprocessing))
    pictures = [
        encoder.crop.apply(PIL.Image.effect_noise(size, 90).convert("RGB")) for size in ((90, 60), (60, 90), (120, 80))
    ]
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures])
    assert np.abs(encoder.encode(pictures) - alone).max() < 1e-5


CROPS = [
    PreprocessingCrop(256, 224),
    PreprocessingCrop(256),
    PreprocessingCrop(384, squash=True),
    PreprocessingCrop(518, squash=True),
    PreprocessingCrop(DEFAULT_SIDE),
    PreprocessingCrop(512, version=1),
]


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_a_slice_of_the_largest_views_takes_no_more_than_it_may(crop: PreprocessingCrop) -> None:
    encoder = SimpleNamespace(crop=crop, batch_size=8)
    held = slice_size(cast(SharedEncoder, encoder)) * BYTES_PER_PIXEL * crop.max_pixels()
    assert SLICE_BYTES / 4 <= held <= SLICE_BYTES


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_processor_makes_little_of_them(decoding: Decoding, name: str) -> None:
    """Of the sizes that are in use, where the tiny models of the tests would hide it."""
    processor = PROCESSORS[name]()

    def preprocess(pictures: Any) -> Any:
        return processor(list(pictures), return_tensors="pt")

    resize = take_over_resize(processor, preprocess)
    crop = resize.crop if resize else PreprocessingCrop(DEFAULT_SIDE)
    before = forget_peak()
    for data in thin():
        picture = decoding.one(data, crop)
        preprocess([resize(picture) if resize else picture])
    assert peak("self") - before <= 2 * ENCODER
