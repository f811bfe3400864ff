"""Serial ports, their adapters, permissions and interference, on captured machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.port_access import (
    Ownership,
    check_access,
    explain_refusal,
    find_interference,
    require_access,
)
from sefa_edge.firmware_bridge.host.serial_adapter import (
    CHIPS,
    chip_of,
    latency_ms,
    low_latency_flag,
    shorten_latency,
)
from sefa_edge.firmware_bridge.host.serial_ports import find_serial_ports, serial_port_at, usb_devices
from sefa_edge.profiles.diagnosis import Weight
from sefa_edge.profiles.errors import MissingError
from tests.rigs.serial_machine import CH340, CH343, FTDI, GPS, Adapter, Machine, link


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# -- discovery -------------------------------------------------------------------------------------------------------


def test_every_port_with_hardware_is_found_usb_first(machine: Machine) -> None:
    machine.add_console("tty0").add_uart("ttyS0", "4").add_uart("ttyS1", "0").plug(FTDI).plug(CH343).plug(CH340)
    ports = find_serial_ports(machine.root)
    assert [port.path for port in ports] == ["/dev/ttyACM0", "/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyS0"]
    assert [port.driver for port in ports] == ["cdc_acm", "ftdi_sio", "ch341-uart", ""]


def test_a_port_reports_its_device_and_its_stable_name(machine: Machine) -> None:
    port = find_serial_ports(machine.plug(CH343).root)[0]
    assert port.usb is not None
    assert (port.usb.vendor_id, port.usb.product_id, port.usb.serial) == ("1a86", "55d3", "5A46083062")
    assert (port.usb.product, port.usb.manufacturer, port.usb.socket) == ("USB Single Serial", "Maker", "1-2.3")
    assert port.name == "/dev/serial/by-id/usb-USB_Single_Serial_5A46083062-if00"


def test_a_chip_without_serial_number_is_named_by_its_node(machine: Machine) -> None:
    port = find_serial_ports(machine.plug(CH340).root)[0]
    assert (port.name, port.stable_names) == ("/dev/ttyUSB1", ())


def test_our_rules_name_a_chip_without_serial_number_by_its_socket(machine: Machine) -> None:
    machine.plug(CH340)
    (machine.root / "dev/sefa-edge").mkdir()
    link(machine.root / "dev/sefa-edge/usb-3-4", machine.root / "dev/ttyUSB1")
    assert find_serial_ports(machine.root)[0].name == "/dev/sefa-edge/usb-3-4"


def test_numbers_are_sorted_as_numbers(machine: Machine) -> None:
    for number in (10, 2, 1):
        machine.add_uart(f"ttyTHS{number}", "")
    assert [port.node for port in find_serial_ports(machine.root)] == ["ttyTHS1", "ttyTHS2", "ttyTHS10"]


def test_a_machine_without_sysfs_has_no_ports_and_no_devices(tmp_path: Path) -> None:
    assert find_serial_ports(tmp_path) == []
    assert usb_devices(tmp_path) == []


def test_a_port_is_described_by_any_of_its_names(machine: Machine) -> None:
    machine.plug(CH343)
    by_id = "/dev/serial/by-id/usb-USB_Single_Serial_5A46083062-if00"
    for path in ("/dev/ttyACM0", by_id):
        port = serial_port_at(path, machine.root)
        assert (port.path, port.node, port.driver) == (path, "ttyACM0", "cdc_acm")


def test_a_pseudo_terminal_is_a_port_without_usb_device_or_chip() -> None:
    master, slave = os.openpty()
    port = serial_port_at(os.ttyname(slave))
    assert (port.usb, port.driver, port.stable_names) == (None, "", ())
    assert chip_of(port) is None
    os.close(master)
    os.close(slave)


def test_terminal_control_characters_are_removed(machine: Machine) -> None:
    usb = machine.plug(CH343).root / "sys/bus/usb/devices" / CH343.socket
    (usb / "product").write_text("evil\x1b[2Jname\n")
    port = find_serial_ports(machine.root)[0]
    assert port.usb is not None
    assert port.usb.product == "evil[2Jname"


# -- latency ---------------------------------------------------------------------------------------------------------


def test_the_latency_timer_of_an_ftdi_chip_is_set_to_one(machine: Machine) -> None:
    port = find_serial_ports(machine.plug(FTDI).root)[0]
    assert latency_ms(port, machine.root) == 16
    (diagnosis,) = shorten_latency(port, machine.root)
    assert (diagnosis.weight, diagnosis.message) == (Weight.GOOD, "latency timer 1 ms, was 16 ms")
    assert latency_ms(port, machine.root) == 1
    assert shorten_latency(port, machine.root)[0].message == "latency timer 1 ms"


def test_a_latency_timer_that_may_not_be_set_is_explained(machine: Machine) -> None:
    port = find_serial_ports(machine.plug(FTDI).root)[0]
    timer = machine.root / "sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
    timer.unlink()
    timer.symlink_to("/proc/sys/kernel/ngroups_max")  # a number that not even root may write
    (diagnosis,) = shorten_latency(port, machine.root)
    assert diagnosis.weight is Weight.NOTE
    assert "may delay answers by 65536 ms" in diagnosis.message
    assert diagnosis.remedy.startswith("echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer;")


@pytest.mark.parametrize("adapter", [CH340, CH343], ids=lambda adapter: adapter.driver)
def test_other_chips_are_reported_as_having_no_latency_timer(machine: Machine, adapter: Adapter) -> None:
    port = find_serial_ports(machine.plug(adapter).root)[0]
    assert latency_ms(port, machine.root) is None
    (diagnosis,) = shorten_latency(port, machine.root)
    assert diagnosis.weight is Weight.GOOD
    assert "no latency timer" in diagnosis.message


def test_nothing_is_reported_for_a_device_that_is_not_an_adapter(machine: Machine) -> None:
    assert shorten_latency(find_serial_ports(machine.plug(GPS).root)[0], machine.root) == []


def test_a_pseudo_terminal_has_no_low_latency_flag() -> None:
    master, slave = os.openpty()
    assert low_latency_flag(serial_port_at(os.ttyname(slave))) is None
    os.close(master)
    os.close(slave)


def test_every_chip_names_its_driver_and_module() -> None:
    assert all(chip.driver and chip.module and chip.waits for chip in CHIPS.values())


# -- permission ------------------------------------------------------------------------------------------------------


def test_the_group_of_the_port_is_named() -> None:
    diagnosis = explain_refusal("/dev/ttyACM0", Ownership("dialout", 0o20660, "jo", ("jo",), ("jo", "video")))
    assert (
        diagnosis.message == "no permission to open /dev/ttyACM0: it belongs to the group dialout, and jo is not in it"
    )
    assert diagnosis.remedy == "sudo usermod -aG dialout $USER, then log out and in again"


def test_a_group_joined_since_the_log_in_needs_a_new_log_in() -> None:
    diagnosis = explain_refusal("/dev/ttyACM0", Ownership("uucp", 0o20660, "jo", ("jo",), ("jo", "uucp")))
    assert "jo joined its group uucp after this log-in" in diagnosis.message
    assert diagnosis.remedy.startswith("log out and in again")


@pytest.mark.parametrize(("group", "mode"), [("root", 0o20660), ("dialout", 0o20600), ("tty", 0o20620)])
def test_a_port_that_only_root_may_open_needs_the_rules(group: str, mode: int) -> None:
    diagnosis = explain_refusal("/dev/ttyACM0", Ownership(group, mode, "jo", ("jo",), ("jo",)))
    assert "only root may open it" in diagnosis.message
    assert "--udev-rules" in diagnosis.remedy


def test_nothing_is_reported_for_a_port_that_may_be_opened(tmp_path: Path) -> None:
    master, slave = os.openpty()
    path = os.ttyname(slave)
    require_access(path)
    assert check_access(serial_port_at(path)) == []
    os.close(master)
    os.close(slave)
    require_access(str(tmp_path / "nowhere"))


def test_a_port_without_device_file_is_reported(machine: Machine) -> None:
    port = find_serial_ports(machine.plug(FTDI).root)[0]
    (diagnosis,) = check_access(port)
    assert "is missing" in diagnosis.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_real_refusal_has_a_hint(tmp_path: Path) -> None:
    master, slave = os.openpty()
    path = os.ttyname(slave)
    os.chmod(path, 0o600)
    child = os.fork()
    if child == 0:  # no pytest in the child: its exit code is the result
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            require_access(path)
        except MissingError as error:
            os._exit(0 if "no permission" in str(error) and error.hint else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(master)
    os.close(slave)


# -- interference ------------------------------------------------------------------------------------------------------


def interference(machine: Machine) -> list[str]:
    found = find_interference(find_serial_ports(machine.root), usb_devices(machine.root), machine.root)
    return [f"{diagnosis.message}|{diagnosis.remedy}" for diagnosis in found]


def test_nothing_is_reported_for_an_adapter_with_its_port(machine: Machine) -> None:
    assert interference(machine.plug(CH340).plug(FTDI)) == []


@pytest.mark.parametrize("sign", ["rules", "process"])
def test_brltty_is_named_when_it_took_an_adapter(machine: Machine, sign: str) -> None:
    machine.plug_without_driver(CH340)
    _ = machine.install_rules("85-brltty.rules") if sign == "rules" else machine.run(77, "brltty")
    (diagnosis,) = interference(machine)
    assert "a WCH CH340 is plugged in at USB 3-4 (1a86:7523) and has no serial port" in diagnosis
    assert "sudo apt remove brltty" in diagnosis


def test_an_adapter_without_driver_names_the_module(machine: Machine) -> None:
    machine.plug_without_driver(FTDI)
    (diagnosis,) = interference(machine)
    assert "ftdi_sio is not loaded" in diagnosis
    assert "sudo modprobe ftdi_sio" in diagnosis


def test_modem_manager_is_reported_until_our_rules_keep_it_off(machine: Machine) -> None:
    machine.plug(CH343).run(812, "ModemManager")
    (diagnosis,) = interference(machine)
    assert "whether it is a modem" in diagnosis
    assert interference(machine.install_rules("60-sefa-edge.rules")) == []
