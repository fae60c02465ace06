"""What steps back has the lowest priority, in its threads and its decoders; what shares the process keeps its own."""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import PIL.Image
import psutil
import pytest
from numpy.typing import NDArray

from tests.support.shape_pictures import picture
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.processes.cpu_threads import LOWEST, lower_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")


class Looks:
    """An encoder that notes the priority that it is called with."""

    name, dimension, batch_size = "looks", 2, 4
    crop: PreprocessingCrop = NO_CROP

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        assert sys.platform == "linux"
        self.seen.add((os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), os.sched_getscheduler(0)))
        return np.tile(np.array([[1, 0]], np.float32), (len(images), 1))


def test_the_threads_of_a_batcher_step_back_and_the_caller_does_not() -> None:
    encoder, ours = Looks(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    batcher = MicroBatcher(lambda: encoder, threads=2, initializer=lower_priority)
    batcher.encode([PIL.Image.new("RGB", (2, 2))] * 16)
    batcher.close()
    assert sys.platform == "linux"
    assert encoder.seen == {(LOWEST, os.SCHED_IDLE)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours < LOWEST


@pytest.mark.parametrize(("begin", "lowest"), [(lower_priority, True), (lambda: None, False)])
def test_decoders_have_the_priority_of_the_thread_that_starts_them(begin: object, *, lowest: bool) -> None:
    assert callable(begin)
    before = set(psutil.Process().children())
    sandbox = SandboxPool(PictureLimits(10**6, 10**6), 20, 1, initializer=begin)
    asked = {"do": "decode", "view": asdict(NO_CROP), "most": 10**6}
    sandbox.run("t", asked, picture("disc"), 10**6)
    [decoder] = set(psutil.Process().children()) - before
    assert (decoder.nice() == LOWEST) is lowest
    sandbox.close()
