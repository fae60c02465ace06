"""Promise 7: a picture that kills, stops or starves its decoder costs its sender an error, and nobody else anything."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest

from tests.support.damaged_pictures import packed
from tests.support.failing_decoder import WORK, decoders, spoilt
from tests.support.running_service import suspended, until
from tests.support.shape_pictures import as_file, picture
from tests.support.tiff_writer import DEFLATE, Written, tiff
from visual_memory.schemas.errors import DecoderFailed, InvalidPicture, TooLarge, Unavailable, UnsupportedFormat
from visual_memory.services.decoding.decode_many import THUMBNAIL_SIDE, CheckedPicture, Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode, thumbnail
from visual_memory.services.decoding.sandbox import sandbox_protocol
from visual_memory.services.decoding.sandbox.child_memory_limit import child_memory_limit
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool

LIMITS = PictureLimits(max_bytes=2**20, max_pixels=1_000_000)
SECONDS = 60.0
SOON = 0.5
GOOD = picture("disc")
TENANT = "a"


@contextmanager
def opened(processes: int = 1, seconds: float = SECONDS, limits: PictureLimits = LIMITS) -> Iterator[Decoder]:
    sandbox = SandboxPool(limits, seconds, processes, WORK)
    try:
        with ThreadPoolExecutor(8) as pool:
            yield Decoder(sandbox, pool)
    finally:
        sandbox.close()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with opened() as decoder:
        yield decoder


@contextmanager
def impatient(decoder: Decoder) -> Iterator[None]:
    """No picture may take longer than `SOON` for a while."""
    decoder.sandbox._seconds = SOON
    try:
        yield
    finally:
        decoder.sandbox._seconds = SECONDS


def some(decoder: Decoder, *pictures: bytes) -> list[PIL.Image.Image]:
    return decoder.decode_some(TENANT, pictures, range(len(pictures)))


def pid(decoder: Decoder) -> int:
    """The process of a decoder that has one."""
    head, _ = decoder.sandbox.run(TENANT, {}, spoilt(GOOD, "who"), 0)
    number = head["pid"]
    assert isinstance(number, int)
    return number


def test_the_answers_are_those_of_decoding_in_this_process(decoder: Decoder) -> None:
    files = [as_file(PIL.Image.new("RGBA", (64, 700)), kind) for kind in ("WEBP", "AVIF", "HEIF")]
    for data in (GOOD, picture("bars", "JPEG"), *files):
        found, expected = decoder.decode_one(TENANT, data), decode(data, LIMITS)
        assert (found.mode, found.size, found.tobytes()) == ("RGB", expected.size, expected.tobytes())
        assert decoder.thumbnail(TENANT, data, 32) == thumbnail(data, 32, LIMITS)
        checked: dict[int, CheckedPicture] = {}
        decoder.check(TENANT, [data], checked.__setitem__)
        each = checked[0]
        assert each.thumbnail == thumbnail(data, THUMBNAIL_SIDE, LIMITS)
        unpacked = decoder.unpack(each.pixels or b"")
        assert unpacked is not None
        assert unpacked.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (InvalidPicture, b"text"),
        (InvalidPicture, GOOD[:100]),
        (UnsupportedFormat, b"%PDF-1.7\n"),
        (TooLarge, bytes(2**20 + 1)),
        (TooLarge, as_file(PIL.Image.new("1", (1001, 1000)))),
    ],
)
def test_a_bad_picture_has_the_same_error_as_in_this_process(
    decoder: Decoder, kind: type[InvalidPicture], data: bytes
) -> None:
    before = pid(decoder)
    with pytest.raises(kind) as expected:
        decode(data, LIMITS)
    for use in (
        lambda data: decoder.decode_one(TENANT, data),
        lambda data: decoder.thumbnail(TENANT, data, 32),
        lambda data: decoder.check(TENANT, [data]),
    ):
        with pytest.raises(kind) as found:
            use(data)
        assert (type(found.value), found.value.message) == (kind, expected.value.message)
    with pytest.raises(kind, match=f"picture 2 of 3: {expected.value.message[:20]}"):
        some(decoder, GOOD, data, GOOD)
    assert pid(decoder) == before, "a bad picture costs no process"


@pytest.mark.parametrize("word", ["abort", "segfault", "exit", "raise"])
def test_a_picture_that_ends_the_decoder_is_an_error_and_the_next_one_is_decoded(decoder: Decoder, word: str) -> None:
    before = pid(decoder)
    with pytest.raises(DecoderFailed, match=r"^picture 2 of 2: decoding this picture ended the decoder$"):
        some(decoder, GOOD, spoilt(GOOD, word))
    assert decoder.decode_one(TENANT, GOOD).size == (96, 96)
    assert pid(decoder) != before


@pytest.mark.parametrize("word", ["hang", "stop"])
def test_a_picture_that_takes_too_long_is_given_up(decoder: Decoder, word: str) -> None:
    before = pid(decoder)
    with impatient(decoder), pytest.raises(DecoderFailed, match=r"took more than 0\.5 s"):
        decoder.decode_one(TENANT, spoilt(GOOD, word))
    assert not psutil.pid_exists(before)
    assert decoder.decode_one(TENANT, GOOD).size == (96, 96)


def test_a_picture_that_needs_too_much_memory_is_given_up(decoder: Decoder) -> None:
    large = as_file(PIL.Image.new("RGB", (1000, 1000)))
    assert decoder.decode_one(TENANT, large).size == (1000, 1000)
    before = pid(decoder)
    with pytest.raises(DecoderFailed, match="more memory than is allowed"):
        decoder.decode_one(TENANT, spoilt(large, "eat"))
    assert not psutil.pid_exists(before), "what it took is given back with its process"
    assert decoder.decode_one(TENANT, large).size == (1000, 1000)


def test_memory_is_limited_by_what_the_largest_picture_needs(decoder: Decoder) -> None:
    process = psutil.Process(pid(decoder))
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    assert process.memory_info().vms <= limit <= 2**28 + child_memory_limit(LIMITS)


QUICKLY = {"preset": "ultrafast"}
HUNGRY = {
    "TIFF of floats": lambda: packed(PIL.Image.new("F", (4000, 4000)), "TIFF", compression="tiff_deflate"),
    "WebP": lambda: as_file(PIL.Image.new("RGBA", (4000, 4000)), "WEBP"),
    "turned JPEG": lambda: _turned(4000),
    "HEIC of 10 bits": lambda: packed(PIL.Image.new("I;16", (4000, 4000), 9_999), "HEIF", enc_params=QUICKLY),
    "HEIC with alpha": lambda: packed(PIL.Image.new("RGBA", (4000, 4000)), "HEIF", enc_params=QUICKLY),
    "AVIF": lambda: packed(PIL.Image.new("RGBA", (4000, 4000)), "AVIF", speed=10),
    "TIFF of RGB and alpha in floats of 64 bits": lambda: tiff(
        np.zeros((4000, 4000, 4)), Written(photometric=2, extra=(2,), compression=DEFLATE)
    ),
}


@pytest.mark.parametrize("name", HUNGRY)
def test_the_largest_picture_of_the_hungriest_formats_has_room(name: str) -> None:
    with opened(limits=PictureLimits(2**20, 16_000_000), seconds=60) as decoder:
        assert decoder.decode_one(TENANT, HUNGRY[name]()).size == (4000, 4000)


def _turned(side: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return packed(PIL.Image.new("RGB", (side, side)), "JPEG", progressive=True, subsampling=0, exif=exif)


def test_a_decoder_may_do_nothing_but_decode_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_SECRET", "a secret of thirty-two characters")
    with opened() as decoder:
        told, _ = decoder.sandbox.run(TENANT, {}, spoilt(GOOD, "try"), 0)
    assert told["told"] == {
        "read": "PermissionError",
        "write": "PermissionError",
        "socket": "PermissionError",
        "fork": "PermissionError",
        "run": "PermissionError",
        "start a thread": "allowed",  # a codec needs one
        "raise the limit": "ValueError",
    }
    libraries = {"OPENBLAS_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert set(told["environment"]) <= {"PYTHONPATH", "LD_LIBRARY_PATH", "LC_CTYPE"} | libraries
    loaded = {module.split(".")[0] for module in told["modules"]}
    assert loaded.isdisjoint({"torch", "transformers", "celery", "pydantic", "httpx", "ssl", "qdrant_edge", "typer"})
    decoding = "visual_memory.services.decoding"
    ours = [
        "",
        ".colour_to_srgb",
        ".find_colour_profile",
        ".build_icc_profile",
        ".open_picture",
        ".picture_limits",
        ".pillow_decode",
        ".preprocessing_crop",
        ".reduce_to_8_bit",
        ".file_formats",
        ".file_formats.heif",
        ".file_formats.jpeg",
        ".file_formats.png",
        ".file_formats.recognise_format",
        ".file_formats.tiff",
        ".file_formats.tiff_samples",
        ".file_formats.truncated_jpeg",
        ".file_formats.webp",
        ".sandbox",
        ".sandbox.landlock",
        ".sandbox.linux_privileges",
        ".sandbox.sandbox_child",
        ".sandbox.sandbox_protocol",
        ".sandbox.seccomp",
    ]
    assert {module for module in told["modules"] if module.startswith("visual_memory.services.")} <= {
        "visual_memory.services.infrastructure.processes.prctl",
        "visual_memory.services.infrastructure",
        "visual_memory.services.infrastructure.processes",
        *(f"{decoding}{name}" for name in ours),
    }


@pytest.mark.parametrize("word", ["lie about size", "lie about nothing", "negative", "tell nothing"])
def test_pixels_that_are_no_picture_are_not_believed(decoder: Decoder, word: str) -> None:
    with pytest.raises(DecoderFailed, match="no picture"):
        decoder.decode_one(TENANT, spoilt(GOOD, word))


@pytest.mark.parametrize("word", ["talk too much", "talk at length"])
def test_an_answer_that_is_too_long_is_not_read(decoder: Decoder, word: str) -> None:
    with pytest.raises(DecoderFailed, match="ended the decoder"):
        decoder.decode_one(TENANT, spoilt(GOOD, word))
    assert decoder.decode_one(TENANT, GOOD).size == (96, 96)


def test_an_error_that_decoders_do_not_have_is_one_they_do(decoder: Decoder) -> None:
    with pytest.raises(DecoderFailed, match="gone"):
        decoder.decode_one(TENANT, spoilt(GOOD, "make up an error"))


def test_a_decoder_that_was_killed_while_it_was_idle_is_no_fault_of_the_next_picture(decoder: Decoder) -> None:
    idle = psutil.Process(pid(decoder))
    idle.kill()
    until(lambda: idle.status() == psutil.STATUS_ZOMBIE, "it to be dead")
    assert decoder.decode_one(TENANT, GOOD).size == (96, 96)


def test_a_decoder_that_stands_still_holds_nobody_up_for_ever() -> None:
    large = bytes(LIMITS.max_bytes)  # more than its channel takes while it does not read
    with opened() as decoder, suspended(psutil.Process(pid(decoder))):
        with impatient(decoder), pytest.raises(DecoderFailed, match=r"took more than 0\.5 s"):
            decoder.check(TENANT, [large])
        assert decoder.decode_one(TENANT, GOOD).size == (96, 96)


def test_a_decoder_outlives_the_thread_that_first_needed_it() -> None:
    with opened() as decoder:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(pid(decoder)))
        thread.start()
        thread.join()
        assert found == [pid(decoder)]


def test_as_many_at_once_as_there_are_processes_and_the_others_wait() -> None:
    before = decoders(os.getpid())
    with opened(processes=2, seconds=60) as decoder:
        assert [image.size for image in some(decoder, *[GOOD] * 40)] == [(96, 96)] * 40
        words = ["", "abort"] * 10
        with ThreadPoolExecutor(8) as threads:
            ended = list(threads.map(lambda word: _fails(decoder, spoilt(GOOD, word)), words))
        assert ended == [word == "abort" for word in words]
        assert len(set(decoders(os.getpid())) - set(before)) <= 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, CancelledError, RuntimeError])
@pytest.mark.parametrize("moment", ["send", "receive"])
def test_whatever_happens_between_question_and_answer_the_next_one_gets_its_own(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], moment: str
) -> None:
    """Promise 5: an answer that is left in the channel would be the next tenant's picture."""
    decoder.decode_one("a", GOOD)
    original = getattr(sandbox_protocol, moment)

    def interrupted(*given: Any) -> Any:
        if moment == "send":
            original(*given)
        raise error

    monkeypatch.setattr(sandbox_protocol, moment, interrupted)
    with pytest.raises(error):
        decoder.decode_one("a", as_file(PIL.Image.new("RGB", (5, 7))))
    monkeypatch.undo()
    assert decoder.decode_one("b", GOOD).size == (96, 96)


def test_an_answer_to_no_question_is_nobodys(decoder: Decoder) -> None:
    with pytest.raises(DecoderFailed, match="ended the decoder"):
        decoder.decode_one("a", spoilt(GOOD, "speak first"))
    assert decoder.decode_one("b", GOOD).size == (96, 96)


def test_an_answer_that_comes_when_nobody_asked_is_no_fault_of_the_next_picture(decoder: Decoder) -> None:
    decoder.decode_one("a", spoilt(GOOD, "speak when told"))
    idle = psutil.Process(pid(decoder))
    idle.send_signal(signal.SIGUSR1)
    until(lambda: idle.status() == psutil.STATUS_STOPPED, "it to have spoken")
    assert decoder.decode_one("b", GOOD).size == (96, 96)
    assert not idle.is_running()


def test_however_many_of_one_tenant_stand_still_others_are_decoded() -> None:
    before = {process.pid for process in decoders(os.getpid())}

    def stopped() -> list[psutil.Process]:
        mine = [each for each in decoders(os.getpid()) if each.pid not in before]
        return [each for each in mine if each.status() == psutil.STATUS_STOPPED]

    with opened(processes=2, seconds=600) as decoder, ThreadPoolExecutor(16) as threads:
        slow = [threads.submit(decoder.decode_one, "a", spoilt(GOOD, "stop")) for _ in range(16)]
        until(lambda: len(stopped()) == 2, "both that one tenant may have")
        for _ in range(3):
            assert decoder.decode_one("b", GOOD).size == (96, 96)
            decoder.check("b", [GOOD] * 20)
        assert not any(each.done() for each in slow)
        while not all(each.done() for each in slow):
            for process in stopped():
                process.resume()
        assert {each.result().size for each in slow} == {(96, 96)}


def _fails(decoder: Decoder, data: bytes) -> bool:
    try:
        decoder.check(TENANT, [data])
    except DecoderFailed:
        return True
    return False


def test_what_is_closed_decodes_no_more_and_leaves_no_process() -> None:
    with opened(processes=3) as decoder:
        mine = psutil.Process(pid(decoder))
        decoder.sandbox.close()
        assert not mine.is_running()
        with pytest.raises(Unavailable, match="shutting down"):
            decoder.decode_one(TENANT, GOOD)


def test_a_decoder_that_does_not_start_blames_no_picture() -> None:
    sandbox = SandboxPool(LIMITS, SECONDS, 1, "tests.support.failing_decoder:unheard_of")
    with pytest.raises(Unavailable, match="does not start"):
        sandbox.run(TENANT, {"do": "decode", "side": 0, "most": 0}, GOOD, 0)
    sandbox.close()


PARENT = f"""
import sys, threading
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from tests.support.failing_decoder import spoilt
from tests.support.shape_pictures import picture
sandbox = SandboxPool(PictureLimits(2**20, 10**6), 600, 1, {WORK!r})
hanging = threading.Thread(target=sandbox.run, args=("a", {{}}, spoilt(picture("disc"), "hang"), 0), daemon=True)
hanging.start()
print(sandbox.run("b", {{}}, spoilt(picture("disc"), "who"), 0)[0]["pid"], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None], ids=str)
def test_no_decoder_outlives_its_parent_however_that_ends(ending: signal.Signals | None) -> None:
    """One of them idle, one in the middle of a picture."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        idle = int(parent.stdout.readline())
        children = until(lambda: _two(decoders(parent.pid)), "both of them")
        assert idle in {child.pid for child in children}
        for child in children:
            child.send_signal(signal.SIGINT)  # as Ctrl-C does, which reaches a whole group; they go on
        if ending is not None:
            parent.send_signal(ending)
        parent.stdin.close()
        parent.wait(60)
    _, left = psutil.wait_procs(children, 60)
    assert left == []


def _two(found: list[psutil.Process]) -> list[psutil.Process] | None:
    return found if len(found) == 2 else None
