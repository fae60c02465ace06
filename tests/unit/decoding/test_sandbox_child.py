"""Code that a picture brings into a decoder's process can touch neither the service's memory nor its files."""

import ctypes
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandbox_attacks import BY_NAME, WORK, Target, attacks, call
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.infrastructure.observability import prometheus_metrics

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the attacks name system calls by their numbers"
)
SECRET = b"what only the service knows"
PR_SET_DUMPABLE = 4


@pytest.fixture
def memory() -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(SECRET)


@pytest.fixture
def target(tmp_path: Path, memory: "ctypes.Array[ctypes.c_char]") -> Iterator[Target]:
    file = tmp_path / "picture"
    file.write_bytes(SECRET)
    yield Target(str(file), os.getpid(), ctypes.addressof(memory), len(SECRET))
    assert memory.value == SECRET
    assert file.read_bytes() == SECRET
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_that_hostile_code_tries_in_a_decoder_is_done(target: Target) -> None:
    got: list[dict[str, bool]] = []
    sandbox = SandboxPool(PictureLimits(2**20, 10**6), 20, 1, WORK, on_start=lambda each: got.append(dict(each)))
    try:
        told, _ = sandbox.run("a", {"target": target.__dict__}, b"picture", 0)
    finally:
        sandbox.close()
    assert set(told["told"]) == set(attacks(target))
    assert {name: end for name, end in told["told"].items() if end != "EPERM"} == {"clone3": "ENOSYS"}
    [protections] = got
    assert protections.pop("no system calls (seccomp)")
    assert {"own user namespace", "no files (Landlock)", "memory closed to others"} <= set(protections)


CHILD = """
import json, os, sys
from visual_memory.services.decoding.sandbox import landlock, linux_privileges as privileges
from tests.support.sandbox_attacks import Target, try_all
from visual_memory.services.infrastructure.processes.prctl import forbid_tracing
target, names, given = json.loads(sys.argv[1]), tuple(json.loads(sys.argv[2])), json.loads(sys.argv[3])
layers = {"namespace": privileges.enter_new_user_namespace, "capabilities": privileges.drop_capabilities,
          "privileges": privileges.forbid_new_privileges, "tracing": forbid_tracing, "landlock": landlock.forbid_files}
got = {name: layers[name]() for name in given}
print(json.dumps({"got": got, "told": try_all(Target(**target), names)}))
"""


def attacked(target: Target, names: tuple[str, ...], *layers: str) -> tuple[dict[str, bool], dict[str, str]]:
    """What a process can do that has only some layers, and none of seccomp."""
    arguments = [json.dumps(each) for each in (target.__dict__, names, layers)]
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, check=True, env=one_thread)
    answer = json.loads(run.stdout)
    return answer["got"], answer["told"]


@pytest.fixture
def closed() -> Iterator[None]:
    """This process as the service's are: no other one looks into it."""
    assert call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    yield
    assert call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def test_a_kernel_without_a_filter_of_system_calls_still_refuses_most(target: Target, closed: None) -> None:
    got, told = attacked(target, BY_NAME, "namespace", "capabilities", "privileges", "tracing", "landlock")
    if not all(got.values()):
        pytest.skip(f"this system does not have all of it: {got}")
    assert {name: end for name, end in told.items() if end not in {"EPERM", "EACCES", "EXDEV"}} == {}


@pytest.mark.parametrize("layers", [("capabilities",), ("namespace", "capabilities")], ids=" ".join)
def test_a_process_of_the_same_user_cannot_look_into_one_that_is_closed(
    target: Target, closed: None, layers: tuple[str, ...]
) -> None:
    names = ("parent's memory as file", "process_vm_readv", "process_vm_writev", "ptrace")
    got, told = attacked(target, names, *layers)
    if not all(got.values()):
        pytest.skip(f"this system does not have all of it: {got}")
    assert set(told) == set(names)
    assert set(told.values()) <= {"EPERM", "EACCES"}


def test_these_attacks_are_done_where_nothing_is_closed(tmp_path: Path, memory: "ctypes.Array[ctypes.c_char]") -> None:
    """Or the tests above would show nothing."""
    file = tmp_path / "picture"
    file.write_bytes(SECRET)
    weak = Target(str(file), os.getpid(), ctypes.addressof(memory), len(SECRET))
    _, told = attacked(weak, ("process_vm_writev", "unlink", "kill", "parent's memory as file"))
    assert set(told.values()) == {"done"}
    assert memory.value != SECRET
    assert not file.exists()


def test_every_process_of_the_command_line_is_closed_to_others() -> None:
    script = """
import os, ctypes, typer
from visual_memory.services.cli import app
app.app = lambda: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
app.main()
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert run.stdout.split() == ["0"]


def test_what_a_system_does_not_have_is_shown_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        prometheus_metrics.observe_protections({"seccomp for a test": False, "landlock for a test": True})
    assert [line for line in caplog.messages if "for a test" in line] == [
        "decoders are confined without a protection that this system does not have: seccomp for a test"
    ]
    shown = {
        sample.labels["protection"]: sample.value
        for family in prometheus_metrics.DECODER_PROTECTION.collect()
        for sample in family.samples
    }
    assert (shown["seccomp for a test"], shown["landlock for a test"]) == (0, 1)
