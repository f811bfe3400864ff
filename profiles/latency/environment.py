"""The machine, software and power settings of a measurement."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from sefa_edge.profiles.jetson import find_jetson, first_line, read_text
from sefa_edge.profiles.quantities import CountOrZero, NotNegative
from sefa_edge.profiles.strict import StrictModel

PACKAGES = ("sefa-edge", "numpy", "onnxruntime", "opencv-python-headless", "pyserial", "mujoco", "tensorrt")


class Environment(StrictModel):
    """The machine, its software and its power settings."""

    machine: str
    cpu: str
    cores: CountOrZero
    memory_mb: CountOrZero
    operating_system: str
    kernel: str
    python: str
    packages: dict[str, str]
    governor: str | None
    """cpufreq governor of core 0; None if the kernel has none (most virtual machines)."""
    jetson: str | None
    """Release line of the Jetson's board support package; None on any other machine."""
    power_mode: str | None
    """The Jetson's nvpmodel mode by name, e.g. `MAXN_SUPER`."""
    load_average: NotNegative
    """One-minute load average at the start: other load makes tails longer."""
    date_utc: str


def describe_environment(root: Path = Path("/")) -> Environment:
    """Describe this machine from the files under `root` (another root: a copy of another unit's files)."""
    jetson = find_jetson(root)
    return Environment(
        machine=first_line(root / "proc/device-tree/model") or platform.machine(),
        cpu=_value(root / "proc/cpuinfo", "model name", ":") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=_memory_mb(root),
        operating_system=_value(root / "etc/os-release", "PRETTY_NAME", "=").strip('"') or platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=_versions(),
        governor=first_line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        jetson=jetson.release_line if jetson else None,
        power_mode=jetson.power_mode if jetson else None,
        load_average=round(os.getloadavg()[0], 2),
        date_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _value(path: Path, key: str, separator: str) -> str:
    """Value of the first line with `key`; empty if there is none."""
    for line in read_text(path).splitlines():
        name, found, value = line.partition(separator)
        if found and name.strip() == key:
            return value.strip()
    return ""


def _memory_mb(root: Path) -> int:
    kilobytes = _value(root / "proc/meminfo", "MemTotal", ":").split(" ")[0]
    return int(kilobytes) // 1024 if kilobytes.isdigit() else 0
