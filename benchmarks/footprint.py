"""Memory of the idle stack: the proportional set size (PSS) of every process, summed."""

import os
import tempfile
from pathlib import Path

import psutil

from benchmarks.pictures import photographs
from schemas.image import ImageFields
from services.cli.own_service import own_service


def main() -> None:
    """Start a service, let each process do a little work, and add up."""
    with tempfile.TemporaryDirectory() as folder, own_service(Path(folder)) as client:
        picture = photographs(1)[0]
        client.add([(picture, ImageFields(labels=["any"]))])
        client.classify([picture])
        total = 0
        for process in psutil.Process(os.getpid()).children(recursive=True):
            used = process.memory_full_info().pss
            total += used
            print(f"{used / 2**20:8.0f} MiB  {' '.join(process.cmdline()[-2:])[:60]}")
        print(f"{total / 2**20:8.0f} MiB  in all; the limit is 1,500")


if __name__ == "__main__":
    main()
