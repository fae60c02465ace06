"""Plan a Qdrant cluster for a billion images, extrapolated from the results of ``benchmarks.growth``.

python -m benchmarks.billion [--memories N] [--price PER_MACHINE_HOUR] [--replicas N] ...; prints Markdown.

What is assumed and not measured stands in `Plan`. A query asks every shard at once, and each is asked for all k: so a
query costs as many searches as there are shards, while it takes little longer than one of them.
"""

import argparse
import json
import math
from dataclasses import dataclass, fields
from typing import Any

from benchmarks.growth import RESULTS, Step, each_further
from visual_memory.schemas.classify_options import Effort
from visual_memory.services.vector_engines.hnsw_parameters import EFFORTS

GIB = 2**30
HOUR, MONTH = 3600, 730
FLOAT = 4


@dataclass(frozen=True)
class Plan:
    """The requirements and assumptions of a plan.

    Attributes:
        memories: how many.
        shard: memories in a shard.
        replicas: copies of each shard; 3 outlive a machine with a majority for every write.
        price: of a machine for an hour, in whatever currency.
        cores: of a machine.
        ram: of a machine, GiB.
        disk: of a machine, GiB.
        spare: the part of a machine's memory and disk that stays free: for the system, and for rebuilding indexes.
        busy: the part of its cores that queries may take.
        queries: a second, at the busiest.
        network: milliseconds from the first machine to the others and back, their answers merged.
        read: milliseconds for a page from the disk; one for every vector that is compared in full.
    """

    memories: int = 1_000_000_000
    shard: int = 10_000_000
    replicas: int = 3
    price: float = 1.0
    cores: int = 16
    ram: float = 128.0
    disk: float = 2000.0
    spare: float = 0.3
    busy: float = 0.5
    queries: float = 100.0
    network: float = 2.0
    read: float = 0.05


@dataclass(frozen=True)
class Cluster:
    """The resources that a plan needs, computed from the measurements.

    Attributes:
        shards: each with its own index.
        ram: bytes of memory of each memory, without its floats, which are read from the disk.
        disk: bytes on the disk of each memory.
        searched: milliseconds that a shard needs for a query, without its disk.
        read: milliseconds that it waits for its disk.
        machines: how many each need would take alone.
    """

    shards: int
    ram: float
    disk: float
    searched: float
    read: float
    machines: dict[str, int]


def cluster(asked: Plan, measured: dict[str, Any]) -> Cluster:
    """Extrapolate from the largest memory that was measured."""
    last, exponent = measured["steps"][-1], max(0.0, measured["exponents"]["balanced"])
    shards = math.ceil(asked.memories / asked.shard)
    searched = last["milliseconds"]["balanced"] * (asked.memories / shards / last["memories"]) ** exponent
    resident, disk = each_further([Step(**step) for step in measured["steps"]])
    ram = resident - FLOAT * measured["dimension"]
    copies, usable = asked.memories * asked.replicas / GIB, 1 - asked.spare
    machines = {
        "memory": math.ceil(ram * copies / (asked.ram * usable)),
        "disk": math.ceil(disk * copies / (asked.disk * usable)),
        "queries": math.ceil(asked.queries * shards * searched / 1e3 / (asked.cores * asked.busy)),
        "replicas": asked.replicas,
    }
    read = asked.read * math.ceil(EFFORTS[Effort.BALANCED].oversampling(measured["k"]) * measured["k"])
    return Cluster(shards, ram, disk, searched, read, machines)


def plan(asked: Plan, measured: dict[str, Any]) -> str:
    """The plan as Markdown."""
    found, last, numbers = cluster(asked, measured), measured["steps"][-1], measured["dimension"]
    number, work = max(found.machines.values()), found.shards * found.searched / 1e3
    hourly, most = number * asked.price, number * asked.cores * asked.busy / work
    everything = asked.memories * asked.replicas / GIB
    building = last["build_seconds"] * asked.memories / last["memories"] * asked.replicas / HOUR
    alone = ", ".join(f"{name} alone {least}" for name, least in found.machines.items())
    latency = found.searched + found.read + asked.network
    rows = {
        "shards": f"{found.shards} of {asked.memories / found.shards:,.0f} memories, {asked.replicas} replicas each",
        "quantisation": f"8 bits a number in memory ({numbers} B); the floats ({FLOAT * numbers} B) on the disk",
        "memory": f"{found.ram:,.0f} B each, {found.ram * everything:,.0f} GiB with all replicas",
        "disk": f"{found.disk:,.0f} B each, {found.disk * everything:,.0f} GiB with all replicas",
        "machines": f"{number} of {asked.cores} cores, {asked.ram:g} GiB, {asked.disk:g} GiB of disk ({alone})",
        "time of a query": f"{latency:.1f} ms: {found.searched:.1f} in all shards at once, {found.read:.1f} for their"
        f" disks, {asked.network:g} between machines",
        "work of a query": f"{work:.2f} core-seconds",
        "queries": f"{most:,.0f} a second with {asked.busy:.0%} of the cores",
        "cost": f"{hourly:,.2f} an hour, {hourly * MONTH:,.0f} a month",
        "cost of a query": f"{hourly / HOUR / most:.6f} at {most:,.0f} a second,"
        f" {hourly / HOUR / asked.queries:.6f} at {asked.queries:g}",
        "building all indexes": f"{building:,.0f} hours of the machine that was measured ({measured['on']})",
    }
    assumed = ", ".join(f"{field.name} {getattr(asked, field.name):,}" for field in fields(asked))
    source = (
        f"Measured: {last['memories']:,} memories on {measured['on']}, {measured['at']}; {measured['data']}; k ="
        f" {measured['k']}, balanced; time carried on as N^{measured['exponents']['balanced']:.2f}. Assumed: {assumed}."
    )
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join([f"# A plan for {asked.memories:,} memories", "", source, "", "| | |", "|---|---|", *lines])


def main() -> None:
    """Read the plan from the command line."""
    parser = argparse.ArgumentParser(description="A plan for very many memories on a Qdrant cluster.")
    for field in fields(Plan):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    print(plan(Plan(**vars(parser.parse_args())), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
