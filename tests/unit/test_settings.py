"""Every setting is documented, and one that is bad or cannot work stops the start with a sentence."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError
from typer.testing import CliRunner

from visual_memory.services.cli.app import app
from visual_memory.services.settings import Settings, settings_table
from visual_memory.services.settings.renamed_settings import RENAMED, _warn

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
PREFIX = "VISUAL_MEMORY_"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def documented() -> str:
    found = re.search(r"<!-- settings -->\n(.*?)<!-- /settings -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "docs/settings.md has no table"
    return found[1].strip()


def variables(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, str | None]]:
    """Every setting as environment variable, with its description."""
    for name, each in model.model_fields.items():
        if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel):
            yield from variables(each.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", each.description


def test_the_readme_has_the_table_of_the_settings_as_they_are() -> None:
    assert documented() == settings_table().strip()


def test_every_setting_is_in_the_table_with_its_meaning() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in documented().splitlines()]
    meanings = {cells[0].strip("`"): cells[-1] for cells in rows if cells[0].startswith("`")}
    assert {name: meanings.get(name) for name, _ in variables(Settings)} == dict(variables(Settings))


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "visual-memory.toml").write_text('data = "from-file"\n[api]\nport = 1234\nmax_images = 7\n')
    monkeypatch.setenv("VISUAL_MEMORY_API__PORT", "4321")
    read = Settings()
    assert (read.data, read.api.port, read.api.max_images) == (Path("from-file"), 4321, 7)


def test_another_file_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[metadata]\nage = "integer"\n')
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", str(tmp_path / "other.toml"))
    assert Settings().metadata == {"age": "integer"}


BAD = [
    ("API__PORT", "0", "api.port"),
    ("API__PORT", "many", "api.port"),
    ("API__KEY", "a key", "api.key"),
    ("STORE__GRPC", "true", "set VISUAL_MEMORY_STORE__URL too"),
    ("STORE__API_KEY", "secret", "set VISUAL_MEMORY_STORE__URL too"),
    ("STORE__URL", "http://qdrant:6333", "set VISUAL_MEMORY_RECORDS__URL to a PostgreSQL database"),
    ("INTAKE__URL", "http://redis:6379", "intake.url"),
    ("INTAKE__PREFIX", "a:b", "intake.prefix"),
    ("INTAKE__REFERENCES", '{"NO": ["s3://bucket/"]}', "intake.references"),
    ("RECORDS__URL", "sqlite:///elsewhere.db", "records.url names a PostgreSQL database"),
    ("STORE__COLLECTION", "a/b", "store.collection"),
    ("PICTURES__MAX_BYTES", "100000000", "no such picture could be sent"),
    ("API__MAX_BYTES_IN_FLIGHT", "80000000", "three quarters of api.max_bytes_in_flight"),
    ("ENCODER__DEVICE", "gpu", "encoder.device"),
    ("ENCODER__POOLING", "max", "encoder.pooling"),
    ("ENCODER__PRECISION", "half", "encoder.precision"),
    ("ENCODER__BATCH_SIZE", "-1", "encoder.batch_size"),
    ("WORKER__CONCURRENCY", "0", "worker.concurrency"),
    ("RERANK__PROVIDER", "another", "every model is reached with OpenAI's protocol"),
    ("RERANK__PROVIDER", "gemini", "for Gemini to https://generativelanguage.googleapis.com/v1beta/openai"),
    ("RERANK__MODEL", "a-model", "set VISUAL_MEMORY_RERANK__URL and"),
    ("RERANK__URL", "http://localhost:11434/v1", "VISUAL_MEMORY_RERANK__MODEL"),
    ("RERANK__API_KEY", "a key", "api_key is of a model"),
    ("RERANK__URL", "ftp://host/v1", "rerank.url"),
    ("RERANK__TENANTS", '["*"]', "rerank.tenants.0"),
    ("RERANK__NEIGHBOURS", "51", "rerank.neighbours"),
    ("REMOVALS__MIRROR", "file://visual-memory-data/mirror", "removals.mirror is in the data folder"),
    ("REMOVALS__MIRROR", "local:visual-memory-data/mirror", "removals.mirror is in the data folder"),
    ("TENANT", "another", "VISUAL_MEMORY_TENANT in the environment is no setting"),
    ("METADATA", '{"age": "number"}', "metadata.age"),
]


def test_many_machines_need_one_intake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STORE__URL": "http://qdrant:6333", "RECORDS__URL": "postgresql://u:p@host/d"}.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(ValidationError, match="set VISUAL_MEMORY_INTAKE__URL"):
        Settings()
    monkeypatch.setenv(f"{PREFIX}INTAKE__URL", "redis://intake:6379/0")
    assert Settings().intake.url == "redis://intake:6379/0"
    monkeypatch.setenv(f"{PREFIX}INTAKE__PORT", "6380")
    with pytest.raises(ValidationError, match=r"intake\.port is of the private server"):
        Settings()


@pytest.mark.parametrize(("name", "value", "says"), BAD, ids=lambda given: given[:30])
def test_a_bad_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    Settings()
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in caught.value.errors())
    assert says in told


def test_the_protocol_of_older_settings_is_taken_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_RERANK", '{"provider": "openai", "url": "http://localhost/v1", "model": "m"}')
    assert Settings().rerank.model == "m"
    assert "rerank.provider has no effect any more" in caplog.text


VALUES = {
    "max_held_bytes": 2**30,
    "max_requests": 8,
    "overdue_seconds": 60,
    "seconds": 5,
    "most_images": 1234,
    "gate": "warn",
    "gate_share": 0.75,
}
"""A value for each former name, other than the default."""


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    _warn.cache_clear()
    yield caplog
    _warn.cache_clear()


@pytest.mark.parametrize(("section", "former"), RENAMED, ids=".".join)
def test_a_former_name_in_the_environment_works_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture, section: str, former: str
) -> None:
    new = RENAMED[section, former]
    monkeypatch.setenv(f"{PREFIX}{section}__{former}".upper(), str(VALUES[former]))
    assert [getattr(getattr(each, section), new) for each in (Settings(), Settings())] == [VALUES[former]] * 2
    [warning] = warnings.messages
    assert f"{PREFIX}{section}__{former}".upper() in warning
    assert f"is now {section}.{new} ({PREFIX}{section.upper()}__{new.upper()})" in warning


@pytest.mark.parametrize(("section", "former"), RENAMED, ids=".".join)
def test_a_former_name_in_the_file_works_with_one_warning(
    tmp_path: Path, warnings: pytest.LogCaptureFixture, section: str, former: str
) -> None:
    new = RENAMED[section, former]
    (tmp_path / "visual-memory.toml").write_text(f"[{section}]\n{former} = {json.dumps(VALUES[former])}\n")
    assert getattr(getattr(Settings(), section), new) == VALUES[former]
    [warning] = warnings.messages
    assert f"{section}.{former} " in warning
    assert f"is now {section}.{new} " in warning


@pytest.mark.parametrize(("section", "former"), RENAMED, ids=".".join)
@pytest.mark.parametrize("in_file", ["neither", "former", "new"])
def test_a_former_and_a_new_name_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, section: str, former: str, in_file: str
) -> None:
    names = {"former": former, "new": RENAMED[section, former]}
    for each, name in names.items():
        if each == in_file:
            (tmp_path / "visual-memory.toml").write_text(f"[{section}]\n{name} = {json.dumps(VALUES[former])}\n")
        else:
            monkeypatch.setenv(f"{PREFIX}{section}__{name}".upper(), str(VALUES[former]))
    with pytest.raises(SettingsError, match="both are set"):
        Settings()
    ended = CliRunner().invoke(app, ["api"])
    assert ended.exit_code == 2
    assert f"settings: {section}.{former} " in ended.stderr


def test_the_environment_wins_over_a_former_name_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "visual-memory.toml").write_text("[curate]\ngate = 'hold'\nk = 7\n")
    monkeypatch.setenv("VISUAL_MEMORY_CURATE__GATE", "warn")
    curate = Settings().curate
    assert (curate.label_check, curate.k, len(warnings.messages)) == ("warn", 7, 1)


def test_the_warning_of_a_former_name_is_printed_on_standard_error(tmp_path: Path) -> None:
    variables = {**os.environ, f"{PREFIX}CURATE__GATE": "warn"}
    ran = subprocess.run(
        [sys.executable, "-c", "from visual_memory.services.settings import Settings; Settings(); Settings()"],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr.count("VISUAL_MEMORY_CURATE__LABEL_CHECK") == 1


def test_a_setting_that_is_not_json_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_METADATA", "age=integer")
    ended = CliRunner().invoke(app, ["api"])
    assert ended.exit_code == 2, ended.exception
    assert '"metadata"' in ended.output
    assert "write it as JSON" in ended.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('colour = "red"', "colour"),
        ("[api]\nprot = 1", "api.prot"),
        ("[api]\nport = 0", "api.port"),
        ("port", "not TOML"),
    ],
    ids=["unknown", "unknown in a section", "bad value", "no TOML"],
)
def test_a_bad_file_is_told_in_a_sentence(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "visual-memory.toml").write_text(content)
    ended = CliRunner().invoke(app, ["api"])
    assert ended.exit_code == 2, ended.exception
    assert says in ended.output


def test_an_unknown_variable_in_a_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_API__PROT", "1")
    with pytest.raises(ValidationError, match="prot"):
        Settings()


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_SECRET", "do not print me, for I am a secret")
    assert "do not print me" not in repr(Settings())


def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", str(tmp_path / "absent.toml"))
    ended = CliRunner().invoke(app, ["api"])
    assert ended.exit_code == 2
    assert "absent.toml, where there is no file" in ended.output


def test_a_file_with_the_secret_is_this_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'secret = "{"s" * 32}"\n')
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", str(file))
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="mode 640"):
        Settings()
    file.chmod(0o600)
    assert Settings().secret is not None
