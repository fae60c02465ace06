"""What is said where the packages of the settings, or of an evaluation, are not installed."""

import os
from importlib.util import find_spec

import pytest

from visual_memory.services import optional_packages
from visual_memory.services.optional_packages import MissingExtra, check_installed, evaluation_fault
from visual_memory.services.settings import PictureSettings, RecordsSettings, Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    return Settings()


@pytest.fixture(autouse=True)
def missing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that are not installed."""
    names: set[str] = set()
    monkeypatch.setattr(optional_packages, "find_spec", lambda name: None if name in names else find_spec(name))
    return names


def test_postgresql_needs_its_extra(settings: Settings, missing: set[str]) -> None:
    records = RecordsSettings.model_validate({"url": "postgresql://user:password@host/records"})
    with_server = settings.model_copy(update={"records": records})
    check_installed(with_server)
    missing.add("psycopg")
    check_installed(settings)
    with pytest.raises(MissingExtra, match=r"^records in PostgreSQL need .* pip install 'visual-memory\[postgres\]'$"):
        check_installed(with_server)


def test_s3_needs_its_extra(settings: Settings, missing: set[str]) -> None:
    missing.add("s3fs")
    check_installed(settings)
    pictures = PictureSettings.model_validate({"url": "s3://bucket/folder"})
    with pytest.raises(MissingExtra, match=r"^files in S3 need the s3 packages: pip install 'visual-memory\[s3\]'$"):
        check_installed(settings.model_copy(update={"pictures": pictures}))


@pytest.mark.parametrize("module", sorted(optional_packages.EVALUATION))
def test_an_evaluation_needs_its_extra(missing: set[str], module: str) -> None:
    assert evaluation_fault() is None
    missing.add(module)
    fault = evaluation_fault()
    assert fault is not None
    assert fault.startswith("an evaluation needs the evaluation packages: pip install 'visual-memory[evaluation]'")
