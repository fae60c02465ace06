"""What holds data or a secret is readable by the service's user alone, or nothing starts."""

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.running_service import new_folder
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.owner_only_files import private_folder, read_secret
from visual_memory.services.settings import Settings

NOBODY = 65534
GOOD = os.urandom(32).hex().encode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(*command: str, data: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The command line as people run it."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("VISUAL_MEMORY_")}
    ours = {"DATA": str(data), "CONFIG": os.devnull, **settings}
    return subprocess.run(
        [sys.executable, "-m", "visual_memory.services.cli", *command],
        env=around | {f"VISUAL_MEMORY_{name}": value for name, value in ours.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_folder_is_this_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_folder(tmp_path / "new" / "data")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new" / "data") == 0o700


@pytest.mark.parametrize("open_to", [0o755, 0o750, 0o777, 0o701])
def test_a_folder_that_others_can_enter_is_closed_and_the_log_says_so(
    tmp_path: Path, open_to: int, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(open_to)
    with caplog.at_level(logging.WARNING):
        private_folder(tmp_path)
        private_folder(tmp_path)
    assert mode(tmp_path) == 0o700
    assert [f"mode {open_to:o}" in line for line in caplog.messages] == [True], "said once"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match=f"belongs to user {NOBODY}.*chown"):
        private_folder(tmp_path)


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="symbolic link"):
        private_folder(tmp_path / "link")


def test_the_folder_of_sockets_in_the_temporary_folder_is_private_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    places = DataPaths(tmp_path / ("x" * 90))
    folder = places.redis_socket.parent
    assert (folder.parent, mode(folder)) == (tmp_path, 0o700)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="symbolic link"):
        _ = places.redis_socket


def _write(path: Path, data: bytes, permissions: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(permissions)


def _link(path: Path) -> None:
    _write(path.with_name("elsewhere"), GOOD)
    path.symlink_to(path.with_name("elsewhere"))


def _of_another(path: Path) -> None:
    _write(path, GOOD)
    os.chown(path, NOBODY, NOBODY)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: _write(path, b""), "has 0 bytes"),
    "short": (lambda path: _write(path, GOOD[:31]), "has 31 bytes"),
    "blank": (lambda path: _write(path, b" \n" * 32), "is blank"),
    "zeros": (lambda path: _write(path, bytes(64)), "is blank"),
    "readable by everybody": (lambda path: _write(path, GOOD, 0o644), r"open to other users \(mode 644\)"),
    "readable by the group": (lambda path: _write(path, GOOD, 0o640), r"open to other users \(mode 640\)"),
    "writable by everybody": (lambda path: _write(path, GOOD, 0o602), r"open to other users \(mode 602\)"),
    "a link": (_link, "is a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to(path.with_name("nothing")), "is a symbolic link"),
    "a folder": (lambda path: path.mkdir(0o700), "is no file"),
    "a pipe": (lambda path: os.mkfifo(path, 0o600), "is no file"),
}
if os.geteuid() == 0:
    BAD["another user's"] = _of_another, f"belongs to user {NOBODY}"


@pytest.mark.parametrize("name", BAD)
def test_a_secret_that_is_none_is_refused_with_what_would_be_right(tmp_path: Path, name: str) -> None:
    make, said = BAD[name]
    make(tmp_path / "secret")
    with pytest.raises(PermissionError, match=f"{said}: it must be a file of at least 32 random bytes.*mode 600"):
        read_secret(tmp_path / "secret", 32)


def test_a_secret_of_random_bytes_is_taken_as_it_is(tmp_path: Path) -> None:
    _write(tmp_path / "secret", data := bytes(range(32)), 0o400)
    assert read_secret(tmp_path / "secret", 32) == data
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "nothing", 32)


@pytest.mark.parametrize("name", ["empty", "readable by everybody", "a link", "a folder"])
@pytest.mark.parametrize("command", [["up"], ["api"], ["keys", "list"]], ids=" ".join)
def test_nothing_starts_with_such_a_secret(tmp_path: Path, name: str, command: list[str]) -> None:
    make, said = BAD[name]
    make(tmp_path / "secret")
    ended = run(*command, data=tmp_path)
    assert ended.returncode == 1
    assert said.split("\\")[0] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"secret", "elsewhere"}, "nor was anything begun"


@pytest.mark.parametrize("secret", ["short", " " * 40])
def test_nothing_starts_with_a_bad_secret_in_the_settings(tmp_path: Path, secret: str) -> None:
    ended = run("up", data=tmp_path / "data", SECRET=secret)
    assert ended.returncode == 2
    assert "openssl rand -hex 32" in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_secret_counts_by_its_bytes(tmp_path: Path) -> None:
    Settings.model_validate({"data": tmp_path, "secret": "ü" * 16})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nothing_starts_in_a_folder_of_another_user(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    ended = run("keys", "list", data=tmp_path)
    assert (ended.returncode, "chown" in ended.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_whatever_a_command_makes_is_this_users_alone() -> None:
    with new_folder() as folder:
        data = folder / "data"
        data.mkdir(0o755)
        ended = run("keys", "make", "somebody", "--scope", "classify", data=data)
        assert ended.returncode == 0, ended.stderr
        assert "open to other users (mode 755)" in ended.stderr
        assert {oct(mode(path) & 0o077) for path in (data, *data.rglob("*"))} == {"0o0"}
