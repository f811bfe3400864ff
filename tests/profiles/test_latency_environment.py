"""The environment block, on this machine and on the captured files of a Jetson."""

from __future__ import annotations

from pathlib import Path

from sefa_edge.profiles.latency.environment import describe_environment

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\nCPU implementer\t: 0x41\n",
    "proc/meminfo": "MemTotal:        7802536 kB\nMemFree:         123456 kB\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "var/lib/nvpmodel/status": "pmode:0002",
}


def test_jetson(tmp_path: Path) -> None:
    for name, content in JETSON.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    environment = describe_environment(tmp_path)
    assert environment.machine == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert environment.operating_system == "Ubuntu 22.04.5 LTS"
    assert environment.memory_mb == 7619
    assert environment.governor == "schedutil"
    assert environment.jetson is not None
    assert environment.jetson.startswith("R36 (release), REVISION: 4.3")
    assert environment.power_mode == "pmode:0002"


def test_missing_files_give_empty_values(tmp_path: Path) -> None:
    environment = describe_environment(tmp_path)
    assert environment.governor is None
    assert environment.jetson is None
    assert environment.memory_mb == 0
    assert environment.machine


def test_this_machine() -> None:
    environment = describe_environment()
    assert environment.cores >= 1
    assert environment.memory_mb > 0
    assert "numpy" in environment.packages
