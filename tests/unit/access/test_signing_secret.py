"""One secret for all processes of a machine, and a key for each purpose."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.settings import BrokerSettings, IntakeSettings, RecordsSettings, Settings


def test_processes_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    for attempt in range(20):
        settings = Settings(data=tmp_path / str(attempt))
        with ThreadPoolExecutor(8) as pool:
            keys = set(pool.map(lambda each: load_secret(each).key("receipts"), [settings] * 8))
        assert len(keys) == 1
        assert DataPaths(settings.data).secret.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in settings.data.iterdir()] == ["secret"]


def test_each_purpose_has_a_key_of_its_own(tmp_path: Path) -> None:
    secret = load_secret(Settings(data=tmp_path))
    assert secret.key("receipts") == load_secret(Settings(data=tmp_path)).key("receipts")
    assert len({secret.key(purpose) for purpose in ("receipts", "messages")}) == 2


def test_the_settings_secret_wins_and_leaves_no_file(tmp_path: Path) -> None:
    keys = {load_secret(Settings(data=tmp_path, secret=SecretStr(text * 32))).key("receipts") for text in "ab"}
    assert len(keys) == 2
    assert not DataPaths(tmp_path).secret.exists()


def test_machines_that_share_a_broker_must_share_a_secret() -> None:
    with pytest.raises(ValidationError, match="VISUAL_MEMORY_SECRET"):
        Settings(broker=BrokerSettings(url="redis://elsewhere:6379/0"))


def test_machines_that_share_a_broker_must_share_their_records() -> None:
    broker = BrokerSettings(url="redis://elsewhere:6379/0")
    with pytest.raises(ValidationError, match="VISUAL_MEMORY_RECORDS__URL to a PostgreSQL database"):
        Settings(broker=broker, secret=SecretStr("s" * 32))
    records = RecordsSettings(url=SecretStr("postgresql://user:password@elsewhere/records"))
    intake = IntakeSettings(url="redis://elsewhere:6380/0")
    Settings(broker=broker, secret=SecretStr("s" * 32), records=records, intake=intake)
