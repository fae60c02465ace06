"""`visual-memory verify-receipt`: receipts are checked by whoever holds them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from typer.testing import CliRunner, Result

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.receipt import Claim, ErasurePayload, Payload, RemovalPayload, RequestedPayload, Requester
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_receipts import receipts_of, signer_of
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.cli.app import app
from visual_memory.services.infrastructure.records.tables import receipt_log
from visual_memory.services.receipts.receipt_signature import RECEIPT
from visual_memory.services.settings import Settings

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
FILTER = {"subject": "ann"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A service's data folder, with the receipts of two removals beside it."""
    settings = Settings(data=tmp_path / "data")
    secret = load_secret(settings)
    with records_of(settings) as database:
        receipts = receipts_of(settings, database, secret)

        def append(removal: str, payload: Payload) -> str:
            with database.write() as connection:
                return receipts.log.append(connection, "default", removal, payload).text

        for removal in ("one", "two"):
            asked: dict[str, Any] = {
                "requested_at": MOMENT,
                "requested_by": Requester(name="a test"),
                "reason": "asked to",
                "block": False,
                "everything": False,
                "filter_digest": receipts.filters.of(removal, Filter.model_validate(FILTER)),
            }
            (tmp_path / f"{removal}.request").write_text(append(removal, RequestedPayload(**asked)))
            done = RemovalPayload(**asked, done_at=MOMENT, images=1, by_state={State.MUTED: 1}, pictures=0)
            (tmp_path / removal).write_text(append(removal, done))
        claim = Claim(engine="gone", pictures="gone", records="gone", copies="theirs")
        entry = receipts.log.entry("default", 2)
        assert entry is not None
        erased = ErasurePayload(receipt=entry.digest, erased_at=MOMENT, erased=True, claim=claim)
        (tmp_path / "erasure").write_text(append("one", erased))
    return settings.data


@pytest.fixture
def key(data: Path, tmp_path: Path) -> Path:
    file = tmp_path / "key.jwk"
    file.write_text(run("receipts", "key", "--data", data).stdout)
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_public_key_is_all_that_a_check_needs(data: Path, key: Path, tmp_path: Path) -> None:
    (data / "secret").unlink()
    (data / "records.db").unlink()
    found = run("verify-receipt", tmp_path / "one", tmp_path / "erasure", "--key", key)
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [
        f"{tmp_path / 'one'}: valid",
        "  version 2: done of one of tenant default, entry 2 of its log",
        f"{tmp_path / 'erasure'}: valid",
        "  version 2: erased of one of tenant default, entry 5 of its log",
    ]


def test_the_key_is_printed_in_both_forms(data: Path, key: Path, tmp_path: Path) -> None:
    jwk = json.loads(key.read_text())
    assert (jwk["kty"], jwk["crv"], jwk["alg"]) == ("OKP", "Ed25519", "EdDSA")
    plain = run("receipts", "key", "--data", data, "--base64").stdout
    assert plain.strip() == jwk["base64"]
    (tmp_path / "plain").write_text(plain)
    assert run("verify-receipt", tmp_path / "one", "--key", tmp_path / "plain").exit_code == 0


def test_with_the_data_folder_the_log_is_checked_too(data: Path, key: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "two", "erasure")]
    assert run("verify-receipt", *files, "--data", data).exit_code == 0
    with records_of(Settings(data=data)) as database, database.write() as connection:
        connection.execute(delete(receipt_log).where(receipt_log.c.number == 5))
    assert run("verify-receipt", *files, "--key", key).exit_code == 0, "nobody sees that without the log"
    found = run("verify-receipt", *files, "--data", data, "--json")
    assert found.exit_code == 1
    said = [json.loads(line) for line in found.stdout.splitlines()]
    assert [each["valid"] for each in said] == [False, False, False]
    assert "breaks off after entry 4" in said[0]["faults"][0]
    assert "the log has no such entry" in said[2]["faults"][0]
    assert said[0]["says"]["images"] == 1


@pytest.mark.parametrize("option", ["--key", "--data"])
def test_what_is_no_receipt_is_said_to_be_none(option: str, data: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00")
    (tmp_path / "changed").write_text((tmp_path / "one").read_text().replace("e", "f", 1))
    where = {"--key": key, "--data": data}[option]
    for name in ("one.request", "bytes", "changed"):
        found = run("verify-receipt", tmp_path / "two", tmp_path / name, option, where)
        assert found.exit_code == 1, name
        assert f"{tmp_path / 'two'}: valid" in found.stdout
        assert f"{tmp_path / name}: not valid" in found.stdout


def test_a_filter_is_checked_with_the_service_s_secret(data: Path, key: Path, tmp_path: Path) -> None:
    of_filter = ("verify-receipt", tmp_path / "one", "--data", data, "--filter")
    assert run(*of_filter, json.dumps(FILTER)).exit_code == 0
    other = run(*of_filter, '{"subject": "bob"}')
    assert (other.exit_code, "it is of another filter" in other.stdout) == (1, True)
    assert run(*of_filter, '{"subject": "ann", "subject": "ann"}').exit_code == 2
    assert run(*of_filter, "{").exit_code == 2
    assert run("verify-receipt", tmp_path / "one", "--key", key, "--filter", "{}").exit_code == 2


def test_an_erasure_is_held_against_the_removal_s_receipt_beside_it(data: Path, key: Path, tmp_path: Path) -> None:
    signer = signer_of(load_secret(Settings(data=data)))
    said = signer.read((tmp_path / "erasure").read_text()).payload
    (tmp_path / "other").write_text(signer.sign(RECEIPT, {**said, "receipt": "0" * 64}))
    assert run("verify-receipt", tmp_path / "one", tmp_path / "erasure", "--key", key).exit_code == 0
    found = run("verify-receipt", tmp_path / "one", tmp_path / "other", "--key", key)
    assert (found.exit_code, "of another removal" in found.stdout) == (1, True)


@pytest.mark.parametrize("given", [["--key", "KEY", "--data", "DATA"], ["--key", "ONE"], ["--data", "NONE"], ["--x"]])
def test_a_check_that_cannot_be_made_is_no_verdict(given: list[str], data: Path, key: Path, tmp_path: Path) -> None:
    named = {"KEY": key, "DATA": data, "ONE": tmp_path / "one", "NONE": tmp_path / "none"}
    found = run("verify-receipt", tmp_path / "one", *(named.get(each, each) for each in given))
    assert found.exit_code == 2, found.output
    assert not (tmp_path / "none").exists(), "nothing is made where nothing was"
