"""`sefa-edge arm scan` on simulated servos behind a pseudo-terminal, and on captured machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import StatusBits
from sefa_edge.firmware_bridge.host.port_lock import Holder
from sefa_edge.firmware_bridge.host.serial_ports import find_serial_ports
from sefa_edge.firmware_bridge.host.status_text import status_text
from sefa_edge.firmware_bridge.service.found_servos import FoundServo, matching_arms
from sefa_edge.firmware_bridge.service.scan import ScanRange
from sefa_edge.firmware_bridge.service.scan import scan as scan_ports
from sefa_edge.firmware_bridge.service.scan_report import PortReport, ScanReport
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.diagnosis import Diagnosis, Weight
from sefa_edge.profiles.errors import MissingError
from tests.rigs.bench_arm import arm_on_the_bench, servos_on_the_bench
from tests.rigs.serial_machine import CH340, CH343, GPS, Machine

Captured = pytest.CaptureFixture[str]


def scan(port: str, *arguments: str) -> int:
    return main(["arm", "scan", "--port", port, "--max-id", "8", *arguments])


@pytest.mark.slow
def test_the_servos_of_an_arm_are_found_and_nothing_is_written(tmp_path: Path, capsys: Captured) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        before = bench.registers()
        assert scan(bench.port.path, "--json", str(tmp_path / "scan.json")) == 0
        assert bench.registers() == before
        assert not bench.plant.ever_on
    printed = capsys.readouterr()
    assert "1000000 baud: fits so100 or so101 or so101_sim" in printed.out
    assert "id   6  STS3215, firmware 3.10, 7.4 V, 30 C, torque off, ok" in printed.out
    assert "9/9" in printed.err
    report = json.loads((tmp_path / "scan.json").read_text())
    (port,) = report["ports"]
    (bus,) = port["buses"]
    assert (port["path"], port["usb"], bus["baud"]) == (str(tmp_path / "arm"), None, 1_000_000)
    assert [servo["id"] for servo in bus["servos"]] == [1, 2, 3, 4, 5, 6]
    assert bus["servos"][0] == {
        "id": 1,
        "clash": False,
        "model": 777,
        "model_name": "STS3215",
        "firmware": "3.10",
        "torque": 0,
        "supply_mv": 7400,
        "temperature_c": 30,
        "status_bits": 0,
        "status": "ok",
    }


@pytest.mark.slow
def test_servos_at_another_baud_rate_are_found_only_there(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (7, 115_200)) as bench:
        assert scan(bench.port.path, "--baud", "1000000", "--baud", "115200", "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    buses = {bus["baud"]: [servo["id"] for servo in bus["servos"]] for bus in report["ports"][0]["buses"]}
    assert buses == {1_000_000: [], 115_200: [7]}


@pytest.mark.slow
def test_two_servos_with_one_id_are_reported(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000), (1, 1_000_000)) as bench:
        assert scan(bench.port.path) == 0
    assert "SEVERAL SERVOS" in capsys.readouterr().out


@pytest.mark.slow
def test_the_status_bits_of_a_servo_are_printed_as_text(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        bench.bus.servos[0].fault_bits = StatusBits.TEMPERATURE | StatusBits.OVERLOAD
        assert scan(bench.port.path) == 0
    assert "heat, overload" in capsys.readouterr().out


@pytest.mark.slow
def test_another_model_fits_no_arm(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        bench.bus.servos[0].set_register(reg.MODEL_NUMBER, 2825)
        assert scan(bench.port.path) == 0
    out = capsys.readouterr().out
    assert "fits no arm profile" in out
    assert "STS3250, firmware" in out


@pytest.mark.slow
def test_a_port_without_servos_is_exit_1_with_a_suggestion(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path) as bench:
        assert scan(bench.port.path) == 1
    out = capsys.readouterr().out
    assert "no servo answers" in out
    assert "--all-bauds" in out


@pytest.mark.slow
def test_a_cable_pulled_during_the_scan_is_one_line_and_exit_3(tmp_path: Path, capsys: Captured) -> None:
    with servos_on_the_bench(tmp_path, (1, 1_000_000)) as bench:
        asked: list[bytes] = []

        def cut(data: bytes) -> bytes:
            asked.append(data)
            if len(asked) == 5:
                bench.port.unplug()
            return data

        bench.bus.disturb_request = cut
        assert scan(bench.port.path) == 3
    assert capsys.readouterr().err.splitlines()[-2].startswith("error: the serial port")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "/nowhere/arm"], 4, "there is no serial port /nowhere/arm"),
        (["--port", "/dev/null"], 4, "/dev/null cannot be opened"),
        (["--port", "P", "--baud", "9600"], 2, "9600 baud is not a speed of a servo"),
        (["--port", "P", "--max-id", "254"], 2, "--max-id: expected an id from 0 to 253, got '254'"),
        (["--port", "P", "--json", "/nowhere/x.json"], 2, "the folder /nowhere does not exist"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line_with_a_hint(
    arguments: list[str], code: int, message: str, capsys: Captured
) -> None:
    assert main(["arm", "scan", *arguments]) == code
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    "arguments", [[], ["scam"], ["scan", "--baud", "fast"], ["scan", "--baud", "1", "--all-bauds"]]
)
def test_unknown_arguments_are_exit_2(arguments: list[str], capsys: Captured) -> None:
    assert main(["arm", *arguments]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: sefa-edge arm")


def test_plugged_in_devices_are_reported_with_their_problems(tmp_path: Path) -> None:
    machine = Machine(tmp_path).plug(CH343).plug(CH340).plug(GPS)
    trouble = Diagnosis("P", Weight.TROUBLE, "no permission", "sudo usermod")
    by_node = {port.node: port for port in find_serial_ports(machine.root)}
    report = ScanReport(
        (
            PortReport(by_node["ttyACM0"], (Holder(4711, "python3"),), ()),
            PortReport(by_node["ttyUSB1"], (), (trouble,)),
            PortReport(by_node["ttyACM1"], (), ()),
        ),
        (Diagnosis("ModemManager", Weight.NOTE, "it may talk", "our rules"),),
    )
    assert report.lines() == [
        "/dev/ttyACM0  WCH CH343 (1a86:55d3, serial number 5A46083062), USB 1-2.3, driver cdc_acm",
        "  /dev/serial/by-id/usb-USB_Single_Serial_5A46083062-if00",
        "  open in another program (process 4711, python3)",
        "/dev/ttyUSB1  WCH CH340 (1a86:7523), USB 3-4, driver ch341-uart",
        "  trouble: no permission",
        "    sudo usermod",
        "/dev/ttyACM1  u-blox 7 - GPS/GNSS Receiver (1546:01a7), USB 1-3, driver cdc_acm",
        "  not a servo adapter; scan it with --port /dev/ttyACM1",
        "note: it may talk",
        "  our rules",
    ]
    plain = json.loads(report.as_json())
    assert plain["ports"][0]["usb"]["socket"] == "1-2.3"
    assert plain["ports"][0]["opened_by"] == [{"pid": 4711, "name": "python3"}]
    assert plain["ports"][1]["diagnoses"][0]["weight"] == "trouble"
    assert plain["ports"][2]["buses"] is None


NO_SERVO = ScanRange((), ())
"""Ping no servo: the ports of a captured machine do not exist here."""


def test_every_port_of_a_machine_is_reported(tmp_path: Path) -> None:
    machine = Machine(tmp_path).plug(replace(CH343, node="ttyACM777")).plug(replace(GPS, node="ttyACM778"))
    machine.plug_without_driver(CH340)
    text = "\n".join(scan_ports(None, NO_SERVO, machine.root).lines())
    assert "/dev/ttyACM777  WCH CH343" in text
    assert "trouble: the device file is missing" in text
    assert "a WCH CH340 is plugged in at USB 3-4 (1a86:7523) and has no serial port" in text


def test_the_reason_for_missing_ports_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no serial port"):
        scan_ports(None, NO_SERVO, tmp_path / "empty")
    machine = Machine(tmp_path)
    machine.plug_without_driver(CH340)
    with pytest.raises(MissingError, match="its driver ch341-uart is not loaded") as caught:
        scan_ports(None, NO_SERVO, machine.root)
    assert caught.value.hint.startswith("sudo modprobe ch341")


def test_an_arm_with_missing_servos_is_named_with_their_ids() -> None:
    servos = [FoundServo(servo_id, False, model=reg.MODEL_STS3215) for servo_id in (1, 2, 4, 5, 6)]
    assert matching_arms([load_arm_profile("so101")], 1_000_000, servos) == ["so101 without 3"]
    assert matching_arms([load_arm_profile("so101")], 500_000, servos) == []


@pytest.mark.parametrize(
    ("bits", "text"),
    [(0, "ok"), (1, "voltage"), (0x2F, "voltage, encoder, heat, over-current, overload"), (16, "bit 4")],
)
def test_status_bits_as_text(bits: int, text: str) -> None:
    assert status_text(bits) == text
