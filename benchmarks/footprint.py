"""Memory of the idle stack: the proportional set size (PSS) of every process, summed."""

import os
import tempfile
from pathlib import Path

import psutil

from benchmarks.result_table import Row
from benchmarks.sample_pictures import photographs
from visual_memory.schemas.image import ImageFields
from visual_memory.services.cli.temporary_service import temporary_service


def measure() -> list[Row]:
    """Start a service, give each process a little work, and sum up."""
    with tempfile.TemporaryDirectory() as folder, temporary_service(Path(folder)) as client:
        picture = photographs(1)[0]
        client.add([(picture, ImageFields(labels=["any"]))])
        client.classify([picture])
        processes = psutil.Process(os.getpid()).children(recursive=True)
        used = sum(process.memory_full_info().pss for process in processes)
    return [Row("memory of the idle stack, all processes (PSS)", "MiB", used / 2**20, note="1,500 allowed")]
