"""The model of a Jetson, read from captured file trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.profiles.jetson import find_jetson
from sefa_edge.profiles.latency.environment import describe_environment

NVPMODEL_NANO_SUPER = """\
# Copyright (c) NVIDIA
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1

< POWER_MODEL ID=3 NAME=7W >
< PM_CONFIG DEFAULT=1 >
"""
NVPMODEL_AGX = """\
< POWER_MODEL ID=0 NAME=MAXN >
< POWER_MODEL ID=1 NAME=MODE_15W >
< POWER_MODEL ID=2 NAME=MODE_30W >
< POWER_MODEL ID=3 NAME=MODE_50W >
< PM_CONFIG DEFAULT=2 >
"""
ORIN_NANO_SUPER = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": NVPMODEL_NANO_SUPER,
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
}
AGX_ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": NVPMODEL_AGX,
    "var/lib/nvpmodel/status": "pmode:0002",
}
RASPBERRY = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
}


def capture(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_orin_nano_super(tmp_path: Path) -> None:
    jetson = find_jetson(capture(tmp_path, ORIN_NANO_SUPER))
    assert jetson is not None
    assert jetson.part_number == "p3767-0005"
    assert jetson.l4t == "36.4.3"
    assert jetson.power_mode == "MAXN_SUPER"


def test_on_agx_orin_the_same_number_is_another_mode(tmp_path: Path) -> None:
    jetson = find_jetson(capture(tmp_path, AGX_ORIN))
    assert jetson is not None
    assert (jetson.part_number, jetson.l4t) == ("p3701-0005", "39.2.0")
    assert jetson.power_mode == "MODE_30W"


@pytest.mark.parametrize("files", [{}, RASPBERRY], ids=["nothing", "raspberry"])
def test_another_machine_is_not_a_jetson(tmp_path: Path, files: dict[str, str]) -> None:
    assert find_jetson(capture(tmp_path, files)) is None


def test_a_mode_without_a_configuration_keeps_its_number(tmp_path: Path) -> None:
    capture(tmp_path, {**ORIN_NANO_SUPER, "etc/nvpmodel.conf": "# nothing\n"})
    jetson = find_jetson(tmp_path)
    assert jetson is not None
    assert jetson.power_mode == "pmode:0002"


def test_an_unknown_module_keeps_its_part_number(tmp_path: Path) -> None:
    capture(tmp_path, {**AGX_ORIN, "proc/device-tree/compatible": "nvidia,p3701-0099\0nvidia,tegra234\0"})
    jetson = find_jetson(tmp_path)
    assert jetson is not None
    assert jetson.part_number == "p3701-0099"


def test_missing_data_is_none(tmp_path: Path) -> None:
    capture(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra234\0"})
    jetson = find_jetson(tmp_path)
    assert jetson is not None
    assert (jetson.model, jetson.part_number, jetson.l4t, jetson.power_mode) == ("Jetson", None, None, None)


def test_the_latency_report_names_the_mode(tmp_path: Path) -> None:
    environment = describe_environment(capture(tmp_path, ORIN_NANO_SUPER))
    assert environment.power_mode == "MAXN_SUPER"
    assert environment.machine.startswith("NVIDIA Jetson Orin Nano")


@pytest.mark.slow
@given(content=st.dictionaries(st.sampled_from(sorted(ORIN_NANO_SUPER)), st.binary(max_size=300)))
def test_damaged_files_raise_no_error(tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("unit")
    for name, data in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    find_jetson(root)
