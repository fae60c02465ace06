"""Promise 7: mutated pictures of every format, and decoders that are killed, stopped and starved, by the thousand."""

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults.conftest import Report
from tests.support.damaged_pictures import mutated
from tests.support.failing_decoder import WORK, decoders, spoilt
from tests.support.shape_pictures import picture
from tests.unit.decoding.test_damaged_pictures import attack
from visual_memory.schemas.errors import DecoderFailed
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.child_memory_limit import child_memory_limit
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool

# As decoding itself asks for outside of pytest, so that the paths behind a warning are tested too.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=1_000_000)
MUTATIONS = 20_000
DEADLY = 200


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    sandbox = SandboxPool(LIMITS, 60, 1)
    with ThreadPoolExecutor(1) as pool:
        yield Decoder(sandbox, pool)
    sandbox.close()


def test_mutated_pictures(decoder: Decoder, report: Report) -> None:
    ended: Counter[str] = Counter()
    largest = 0

    @settings(max_examples=MUTATIONS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=mutated())
    def attacked(data: bytes) -> None:
        nonlocal largest
        ended[attack(decoder, data)] += 1
        if ended.total() % 1000 == 0:
            largest = max(largest, *(process.memory_info().rss for process in decoders(os.getpid())))

    attacked()
    assert ended["RGB"] > MUTATIONS / 20, "whole enough to be decoded"
    assert ended["InvalidPicture"] > MUTATIONS / 20
    assert 0 < largest < child_memory_limit(LIMITS)
    report(7, "mutated pictures of six formats, decoded twice alike or refused", ended.total(), 0, 0)


def test_pictures_that_fail_their_decoder_among_others(report: Report) -> None:
    """Eight callers at once, in random order; each gets the answer to its own picture."""
    before = set(decoders(os.getpid()))
    words = [random.Random(0).choice(["", "", "", "abort", "segfault", "exit", "stop", "eat"]) for _ in range(DEADLY)]
    sandbox = SandboxPool(LIMITS, 2, 2, WORK)
    with ThreadPoolExecutor(8) as pool:
        decoder = Decoder(sandbox, pool)

        def fails(word: str) -> bool:
            try:
                assert decoder.decode_one("a", spoilt(picture("disc"), word)).size == (96, 96)
            except DecoderFailed:
                return True
            return False

        failed = list(pool.map(fails, words))
    sandbox.close()
    wrong = [word for word, failed in zip(words, failed, strict=True) if failed and not word]
    survived = {word for word, failed in zip(words, failed, strict=True) if word and not failed}
    assert survived <= {"eat"}, "a small picture may find room even then"
    assert wrong == []
    assert set(decoders(os.getpid())) <= before
    report(7, "pictures that kill, stop or starve their decoder, among others", DEADLY, len(wrong), 0)


def test_decoders_killed_from_outside_at_random(report: Report) -> None:
    """At most one picture fails with each that is killed, and none is answered wrongly."""
    others = set(decoders(os.getpid()))
    chance, sandbox, kills = random.Random(1), SandboxPool(LIMITS, 60, 2), 0
    data = picture("bars")
    with ThreadPoolExecutor(4) as pool:
        decoder = Decoder(sandbox, pool)
        expected = decoder.decode_one("a", data).tobytes()
        answers = [pool.submit(decoder.decode_one, "a", data) for _ in range(4000)]
        while not answers[-1].done() and kills < 100:
            for child in set(decoders(os.getpid())) - others:
                if chance.random() < 0.1 and child.rlimit(psutil.RLIMIT_NOFILE) == (0, 0):
                    child.send_signal(signal.SIGKILL)
                    kills += 1
        failed = [answer for answer in answers if answer.exception() is not None]
        assert all(isinstance(answer.exception(), DecoderFailed) for answer in failed)
        assert all(answer.result().tobytes() == expected for answer in answers if answer not in failed)
    sandbox.close()
    assert kills > 20
    assert len(failed) <= kills
    report(7, "decoders killed at random while others decode", kills, 0, 0)
