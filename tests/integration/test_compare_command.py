"""The command that compares two encoders, over a data folder where no service runs, with real models and pictures."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.memory_images import image
from tests.support.shape_pictures import KINDS, picture
from tests.support.tiny_encoders import dinov2
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.services.bootstrap.encoder_commands import labelled_pictures
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.cli.commands.encoder import app
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

TENANT = "shop"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a data folder that holds pictures of four kinds by two encoders: one model, pooled in two ways."""
    folder = tmp_path_factory.mktemp("compared")
    dinov2(folder / "model")
    environment = {"VISUAL_MEMORY_DATA": str(folder / "data")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISUAL_MEMORY_DATA", environment["VISUAL_MEMORY_DATA"])
        settings = Settings()
    specs = []
    for pooling in ("cls", "mean"):
        asked = settings.encoder.model_copy(update={"name": str(folder / "model"), "pooling": pooling, "threads": 1})
        identity = identify(asked)
        dimension = load_encoder(asked, identity).dimension
        specs.append(EncoderSpec(**identity.model_dump(), dimension=dimension, added_at=now()))
    with records_of(settings) as database:
        records = EncoderRecords(database)
        records.create_first(specs[0])
        records.add(specs[1])
    engine = EdgeEngine(DataPaths(settings.data).engine)
    memories = {spec.name: Memory(engine, spec.name, spec.dimension, {}) for spec in specs}
    memories[specs[0].name].open()
    engine.add_vector(vector_name(specs[1].name), specs[1].dimension)
    pictures = [(picture(kind), kind) for kind in KINDS for _ in range(6)]
    images = [
        image(TENANT, f"{kind}-{number}", labels=[kind], state=State.REMEMBERED)
        for number, (_, kind) in enumerate(pictures)
    ]
    with labelled_pictures(settings, TENANT, (specs[0], specs[1]), lambda spec: memories[spec.name]) as encode:
        a, b = (embed(TENANT, [data for data, _ in pictures]) for embed in encode.embed)
    memories[specs[0].name].writes.put(images, vectors=a)
    memories[specs[1].name].missing_vectors.store(images[1:], b[1:])
    engine.close()
    for kind in KINDS:
        (folder / "asked" / kind).mkdir(parents=True)
        for number in range(3):
            (folder / "asked" / kind / f"{number}.png").write_bytes(picture(kind))
    (folder / "asked" / "disc" / "broken.png").write_bytes(picture("disc")[:300])
    return {**environment, "ASKED": str(folder / "asked")}


def compare(environment: dict[str, str], *words: str, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, ["compare", *words], env={"VISUAL_MEMORY_DATA": environment["VISUAL_MEMORY_DATA"]})
    assert ended.exit_code == code, ended.output
    return ended


def test_the_memory_and_a_folder_are_asked_by_both(environment: dict[str, str]) -> None:
    ended = compare(environment, "--folder", environment["ASKED"], "-k", "5", "--json", code=3)
    found = json.loads(ended.stdout)
    assert (found["tenant"], found["voting"]) == (TENANT, 24)
    assert found["lacking"] == {found["a"]: 0, found["b"]: 1}
    assert (found["itself"]["queries"], found["folder"]["queries"], found["folder"]["images"]) == (23, 12, 23)
    assert found["folder"]["a"]["accuracy"]["value"] > 0.5
    [(name, reason)] = found["refused"].items()
    assert name.endswith("asked/disc/broken.png")
    assert reason
    changed = [each for kind in ("gained", "lost", "swapped") for each in found["folder"][kind]]
    assert all(Path(each["image_id"]).is_file() for each in changed)
    known, read = json.loads(compare(environment, "--json").stdout), found["itself"]
    assert known["itself"]["k"] == 22
    assert read["k"] == 5


def test_people_read_a_sentence_and_a_table(environment: dict[str, str]) -> None:
    said = compare(environment).stdout
    assert "The memory itself, each image classified by the others: " in said
    assert "1 images have no vector of model-mean-" in said
    assert "23 queries, 23 images" in said


def test_what_cannot_be_compared_is_said(environment: dict[str, str]) -> None:
    assert "has no images" in compare(environment, "--tenant", "nobody", code=1).output
    assert "no encoder 'other'" in compare(environment, "other", code=1).output
    assert "give a folder" in compare(environment, "--folder", "/nowhere", code=1).output
