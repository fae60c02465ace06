"""Commands about encoders over a running service, and the check of all vectors that it holds."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.command_line import Ended, run_command
from tests.support.running_service import SETTINGS, Stack
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions, Effort
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.encoder_contract import Encoder
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Point
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

ALIKE = 0.99999
"""Least cosine of a vector to the one that its encoder makes of the same picture, in batches of another size."""


@dataclass(frozen=True)
class Commands:
    """``visual-memory encoder`` over a data folder, and what the folder holds."""

    data: Path

    @property
    def settings(self) -> dict[str, str]:
        """Of the service, as environment variables."""
        return {f"VISUAL_MEMORY_{name}": value for name, value in {**SETTINGS, "DATA": str(self.data)}.items()}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A command that may be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "visual_memory.services.cli", *words],
            env={**os.environ, **self.settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Ended:
        """A command, to its end."""
        return run_command(*words, settings=self.settings)

    def encoder(self, *words: str) -> dict[str, Any]:
        """What a command says that must go well."""
        done = self.run("encoder", *words, "--json")
        assert done.returncode == 0, done
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return {} if not said else dict(said[0])

    def refused(self, *words: str) -> str:
        """What a command says that must not."""
        done = self.run("encoder", *words)
        assert done.returncode == 1, done
        return done.stderr.strip()

    def known(self) -> dict[str, EncoderSpec]:
        """The encoders that the memory knows."""
        with closing(Database.in_folder(self.data)) as database:
            return EncoderRecords(database).known()

    @property
    def active(self) -> str:
        """The encoder that classifies."""
        with closing(Database.in_folder(self.data)) as database:
            held = EncoderRecords(database).active()
        assert held is not None
        return held.name

    def ids(self) -> set[str]:
        """Of all images."""
        return {to_image(point.payload).image_id for point in self.points()}

    def points_of(self, image_id: str) -> list[Point]:
        """The points of an image, of whatever tenants."""
        return [point for point in self.points() if to_image(point.payload).image_id == image_id]

    def points(self) -> list[Point]:
        """Every point, by way of the running service's engine."""
        engine = EngineOwnerClient(DataPaths(self.data).engine_socket, 60)
        points: list[Point]
        points, cursor = engine.export(EVERY_POINT, 500, None)
        while cursor is not None:
            more, cursor = engine.export(EVERY_POINT, 500, cursor)
            points += more
        engine.close()
        return points


@dataclass(frozen=True)
class Check:
    """Holds every vector of a running service against what its encoder makes of the picture that is stored.

    Attributes:
        known: the encoders; by default those of the records.
    """

    commands: Commands

    @cached_property
    def _encoders(self) -> dict[str, tuple[EncoderSpec, Encoder]]:
        return {}

    def __call__(self) -> dict[str, set[str]]:
        """Check all; the ids of the images that have a vector of each encoder, and of all under the name ``""``."""
        known = self.commands.known()
        points = self.commands.points()
        images = {point.id: to_image(point.payload) for point in points}
        found: dict[str, set[str]] = {"": {image.image_id for image in images.values()}}
        for spec in known.values():
            name = vector_name(spec.name)
            given = {
                images[point.id].image_id: (images[point.id], point.vectors[name])
                for point in points
                if name in point.vectors
            }
            found[spec.name] = set(given)
            self._check(spec, given)
        names = {name for point in points for name in point.vectors}
        assert names <= {vector_name(name) for name in known}, "a vector of an encoder that is not known"
        return found

    def _check(self, spec: EncoderSpec, given: Mapping[str, tuple[StoredImage, Any]]) -> None:
        encoder = self._load(spec)
        pictures = PictureStore(self.commands.data / "pictures")
        rows = [each for each in given.values() if not each[0].picture.startswith("vector.")]
        sandbox = SandboxPool(PictureLimits(10**6, 10**6), 20, 2)
        with ThreadPoolExecutor(2) as pool:
            decoder = Decoder(sandbox, pool, encoder.crop)
            readable = [(image, row) for image, row in rows if _is_there(pictures, image.picture)]
            decoded = list(pool.map(lambda each: decoder.decode_one("t", pictures.read(each[0].picture)), readable))
        sandbox.close()
        for start in range(0, len(readable), 32):
            part = readable[start : start + 32]
            wanted = encoder.encode(decoded[start : start + 32])
            cosines = (wanted * np.array([row for _, row in part], np.float32)).sum(1)
            for (image, _), cosine in zip(part, cosines, strict=True):
                assert cosine >= ALIKE, f"{image.image_id}: {cosine} to what {spec.name} makes of its picture"

    def _load(self, spec: EncoderSpec) -> Encoder:
        if spec.name not in self._encoders:
            settings = EncoderSettings(precision="float32", threads=1)
            self._encoders[spec.name] = spec, load_encoder(settings, spec)
        return self._encoders[spec.name][1]


def _is_there(pictures: PictureStore, key: str) -> bool:
    return pictures.exists(key)


def encoder_of(stack: Stack, kind: str) -> tuple[str, str | None]:
    """The encoder that decides on a new picture of a kind, and its label."""
    [decision] = stack.client.classify([picture(kind)], ClassifyOptions(k=3)).decisions
    return decision.encoder, decision.label


def votes(stack: Stack) -> set[str]:
    """The ids of all images that vote."""
    [decision] = stack.client.classify([picture("disc")], ClassifyOptions(k=1000, effort=Effort.EXACT)).decisions
    return {each.image_id for each in decision.neighbours}
