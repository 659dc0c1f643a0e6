"""Describes the machine, and reads the processor time and memory of its processes."""

import os
import platform
from pathlib import Path

MEBIBYTE = 1 << 20


def describe() -> str:
    """Return processor, cores and Python in one line, for the head of a report."""
    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's living threads in seconds, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """Return how many file descriptors a process holds."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def recsvc_workers(pid: int) -> list[int]:
    """Return the processes of a recsvc that answer calls; the process itself where it has none beside."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in children}
    return [child for child, command in commands.items() if command[1:3] == [b"-m", b"recsvc"]] or [pid]
