"""Fill: images that are remembered already get the vectors of an encoder that was added, beside the daily work.

How far it is, the points say themselves: whatever dies, whoever goes on finds what is left. Several may fill at once,
each from a place of its own; where they meet, both write the same vector.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import PIL.Image

from visual_memory.schemas.encoder import EncoderSpec, FillSettings
from visual_memory.schemas.errors import DecoderFailed, NotFound, Unavailable, VisualMemoryError
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.micro_batcher import MicroBatcher, SharedEncoder
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.remember_pictures import embed
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.page_cursor import random_cursor
from visual_memory.services.vector_engines.engine_contract import Vectors

SLICES_AT_ONCE = 6
"""So that some are decoded, and some written, while others are encoded."""
BATCHES = 2
"""Of the encoder, that are encoded at once; a pause waits for these."""
WRITE_SECONDS = 2.0
"""After which what is encoded of a slice is written: little is lost by a kill, and whoever looks sees it go on."""
ATTEMPTS = 3
"""How often a picture may fail the decoder until it is given up."""
LOOK_SECONDS = 1.0
"""How often it is looked what was paused, added or dropped."""
REST = 200
"""Where nothing was left, it is looked again after so many times as long as the look took: of a million images that is
half a second, in which an embedded store answers nobody else."""
RETRY_SECONDS = 5.0
"""How long after a part did not answer it is tried again."""

ReadFillSettings = Callable[[], FillSettings | None]
"""How an encoder is to be filled at this moment; None: not any more."""

log = logging.getLogger(__name__)


@dataclass
class FillPass:
    """The use case, with the parts that it needs: goes once over all images that lack the vector of one encoder.

    Attributes:
        filling: of that encoder.
        tenants: names everybody who has images.
        decoder: makes that encoder's view.
        pool: its threads wait for the decoders.
        slice_size: how many images of a slice are held decoded; `SLICES_AT_ONCE` are worked on.
        settings: how the encoder is to be filled.
        ended: set when the process ends.
    """

    filling: MissingVectors
    tenants: Callable[[], list[str]]
    pictures: PictureStore
    encoder: SharedEncoder
    decoder: Decoder
    pool: Executor
    slice_size: int
    settings: ReadFillSettings
    ended: threading.Event
    _under_way: set[str] = field(default_factory=set, init=False)

    def __call__(self) -> int:
        """Fill until nothing is left, or it is paused, dropped or ended; returns how many images got a vector.

        Raises:
            Unavailable: a part does not answer; nothing is lost by it.
        """
        done = 0
        slices: deque[Future[int]] = deque()
        with ThreadPoolExecutor(SLICES_AT_ONCE, "fill", initializer=cpu_threads.lower_priority) as threads:
            for images in self._slices():
                slices.append(threads.submit(self._fill, images))
                while len(slices) >= (SLICES_AT_ONCE if self._share() == 1 else 1):
                    done += slices.popleft().result()
        return done + sum(each.result() for each in slices)

    def _slices(self) -> Iterator[list[StoredImage]]:
        """What lacks a vector, some images of each tenant in turn; at the end of one again from its beginning, once."""
        tenants = self.tenants()
        random.shuffle(tenants)
        places: deque[tuple[str, str | None, bool]] = deque((tenant, random_cursor(), False) for tenant in tenants)
        while places and self._goes_on():
            tenant, place, again = places.popleft()
            images, following = self.filling.page(tenant, self.slice_size, place)
            if following is not None or not again:
                places.append((tenant, following, again or following is None))
            if due := [image for image in images if image.picture not in self._under_way]:
                self._under_way.update(image.picture for image in due)
                yield due

    def _goes_on(self) -> bool:
        settings = None if self.ended.is_set() else self.settings()
        return settings is not None and not settings.paused

    def _share(self) -> float:
        return (self.settings() or FillSettings()).share

    def _rest(self, worked: float) -> None:
        """Leave the rest of the time to others."""
        share = self._share()
        until = time.monotonic() + worked * (1 - share) / share
        while (left := until - time.monotonic()) > 0 and self._goes_on():
            self.ended.wait(min(left, LOOK_SECONDS))

    def _fill(self, images: Sequence[StoredImage]) -> int:
        """Give images of one tenant their vectors, in one write where that is soon; how many got one."""
        begun = written_at = time.monotonic()
        done = 0
        pairs: list[tuple[StoredImage, PIL.Image.Image]] = []
        failed: list[tuple[StoredImage, str]] = []
        encoded: list[tuple[StoredImage, Vectors]] = []
        try:
            for image, found in zip(images, self.pool.map(self._pixels, images), strict=True):
                if isinstance(found, str):
                    failed.append((image, found))
                elif found is not None:
                    pairs.append((image, found))
            while pairs and self._goes_on():
                some = BATCHES * self.encoder.batch_size
                encoded += embed(self.encoder, pairs[:some], failed, self._check_encoder)
                del pairs[:some]
                if time.monotonic() - written_at >= WRITE_SECONDS:
                    done, written_at = done + self._write(encoded), time.monotonic()
                self._rest(time.monotonic() - begun)
                begun = time.monotonic()
            for image, reason in failed:
                self.filling.give_up([image], reason)
            return done + self._write(encoded)
        finally:
            self._under_way.difference_update(image.picture for image in images)

    def _write(self, encoded: list[tuple[StoredImage, Vectors]]) -> int:
        """Write them, and let go of them; how many they were."""
        number = len(encoded)
        if encoded:
            self.filling.store([image for image, _ in encoded], np.stack([vector for _, vector in encoded]))
            encoded.clear()
        return number

    def _pixels(self, image: StoredImage) -> PIL.Image.Image | str | None:
        """The encoder's view of an image's picture; a reason where there is none; None where it does not go on."""
        if not self._goes_on():
            return None
        try:
            picture = self.pictures.read(image.picture)
            for _ in range(ATTEMPTS - 1):
                try:
                    return self.decoder.decode_one(image.tenant, picture)
                except DecoderFailed:
                    continue
            return self.decoder.decode_one(image.tenant, picture)
        except NotFound:
            return "its picture is gone from the blob store"
        except Unavailable:
            raise
        except VisualMemoryError as error:
            return error.message

    def _check_encoder(self) -> None:
        """Return if the encoder is well, so that it is the picture's fault where it failed on one.

        Raises:
            Unavailable: it fails on any picture, for want of memory maybe.
        """
        any_picture = self.encoder.crop.apply(PIL.Image.radial_gradient("L").convert("RGB"))
        try:
            self.encoder.encode([any_picture])
        except Exception as error:
            raise Unavailable(f"the encoder fails on any picture: {kind(error)}") from error


@dataclass(frozen=True)
class FillLoop:
    """Fills whatever encoder has something left, as long as the process lives.

    Attributes:
        filling_of: what an encoder lacks.
        loaded: the encoder of a name, where this process has it by now.
        filling: opens what fills the images of all tenants by an encoder.
        upgrade: called at each look; adds an encoder, or switches to one, where the settings ask for it.
        ended: set when the process ends.
    """

    records: EncoderRecords
    missing_vectors_of: Callable[[EncoderSpec], MissingVectors]
    loaded: Callable[[str], MicroBatcher | None]
    filling: Callable[[MicroBatcher, ReadFillSettings], AbstractContextManager[FillPass]]
    upgrade: Callable[[], object]
    ended: threading.Event
    _rests_until: dict[str, float] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Look, fill, and look again, until the process ends; nothing of it ends with an error."""
        cpu_threads.lower_priority()
        pause = LOOK_SECONDS
        while not self.ended.wait(pause):
            try:
                self.fill()
                self.upgrade()
                pause = LOOK_SECONDS
            except Unavailable as error:
                log.warning("filling goes on later: %s", kind(error))
                pause = RETRY_SECONDS
            except Exception:
                log.exception("filling failed, and is tried again")
                pause = RETRY_SECONDS

    def fill(self) -> None:
        """Fill each encoder that has something left, one after the other; nothing where there is but one.

        The active one is filled too: what was remembered at the moment of a switch may lack its vector.
        """
        known = self.records.known()
        for spec in self._due(known) if len(known) > 1 else ():
            settings, encoder = _Fresh(self.records, spec.name), self.loaded(spec.name)
            held = None if self.ended.is_set() else settings()
            if encoder and held and not held.paused and self._has_left(spec):
                with self.filling(encoder, settings) as fill:
                    log.info("filling the vectors of %s", spec.name)
                    log.info("filled %d vectors of %s", fill(), spec.name)

    def _has_left(self, spec: EncoderSpec) -> bool:
        """Whether something is left; not asked again at once where nothing was."""
        begun = time.monotonic()
        if begun < self._rests_until.get(spec.name, begun):
            return False
        left = self.missing_vectors_of(spec).any_left()
        ended = time.monotonic()
        self._rests_until[spec.name] = ended + (0 if left else REST * (ended - begun))
        return left

    def _due(self, known: Mapping[str, EncoderSpec]) -> list[EncoderSpec]:
        dropping = self.records.dropping()
        return [spec for name, spec in known.items() if name not in dropping]


class _Fresh:
    """How an encoder is to be filled, read anew each second at most; for many threads."""

    def __init__(self, records: EncoderRecords, name: str) -> None:
        self._records, self._name = records, name
        self._lock = threading.Lock()
        self._read_at = -LOOK_SECONDS
        self._held: FillSettings | None = None

    def __call__(self) -> FillSettings | None:
        with self._lock:
            if time.monotonic() - self._read_at >= LOOK_SECONDS:
                gone = self._name in self._records.dropping() or self._name not in self._records.known()
                self._held = None if gone else self._records.fill(self._name)
                self._read_at = time.monotonic()
            return self._held
