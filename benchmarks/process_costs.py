"""CPU time and memory of the processes of a service."""

from collections import defaultdict

import psutil


def family() -> dict[int, str]:
    """The names of the child processes, by id: ``api``, ``api decoder``, ``worker``, ``redis`` and so on."""
    below = psutil.Process().children(recursive=True)
    names = {process.pid: _name(process) for process in below}
    return {
        process.pid: f"{names.get(process.ppid(), '')} decoder"
        if names[process.pid] == "decoder"
        else names[process.pid]
        for process in below
        if names[process.pid]
    }


def cpu_seconds() -> dict[str, float]:
    """CPU seconds of each process so far, by name."""
    taken: dict[str, float] = defaultdict(float)
    for pid, name in family().items():
        times = psutil.Process(pid).cpu_times()
        taken[name] += times.user + times.system
    return taken


def memory() -> dict[str, float]:
    """Proportional set size (PSS) of each process in bytes, by name."""
    held: dict[str, float] = defaultdict(float)
    for pid, name in family().items():
        held[name] += psutil.Process(pid).memory_full_info().pss
    return held


def _name(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if "visual_memory.services.decoding.sandbox.sandbox_child" in words:
        return "decoder"
    if any("redis-server" in word for word in words):
        return "redis"
    return words[3] if words[1:3] == ["-m", "visual_memory.services.cli"] else ""
