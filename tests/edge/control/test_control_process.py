"""How a control process starts, or says why it does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from sefa_edge.edge.control.control_process import ControlConfig, parse_config
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.ipc.faults import ArmLeft, Fault
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.records import Final, Torque, unpack_for_supervisor
from sefa_edge.edge.ipc.transport import channel_pair
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.profiles.errors import InputError

MODULE = "sefa_edge.edge.control.control_process"
HANG_GUARD_S = 60.0
VALID = {
    "arm": "so101_sim",
    "port": "/nowhere/arm",
    "calibration": None,
    "horizon": 16,
    "supervisor_fd": 3,
    "policy_fd": 4,
}


def test_defaults_are_filled_in() -> None:
    config = parse_config(json.dumps(VALID).encode())
    assert (config.control_rate_hz, config.cpu) == (None, None)
    assert config.hand_over == HandOver()


def test_the_hand_over_survives_its_way_to_the_process() -> None:
    wanted = HandOver("blend", 80.0, -0.5)
    config = ControlConfig(
        arm="so101_sim", port="P", calibration=None, horizon=4, supervisor_fd=3, policy_fd=4, hand_over=wanted
    )
    assert parse_config(config.model_dump_json().encode()) == config
    assert ControlConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"supervisor_fd": -1}, "supervisor_fd"),
        ({"control_rate_hz": 10000.0}, "control_rate_hz"),
        ({"horizon": 0}, "horizon"),
        ({"spin_us": 1.5}, "spin_us"),
        ({"spinn_us": 1}, "spinn_us"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_key(change: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_config(json.dumps(VALID | change).encode())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_configuration_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        parse_config(raw)


def start_and_end(config: Mapping[str, object]) -> tuple[Final, int | None]:
    supervisor, supervisor_end = channel_pair()
    policy, policy_end = channel_pair()
    fds = {"supervisor_fd": supervisor_end.fileno(), "policy_fd": policy_end.fileno()}
    child = Child(
        ChildSpec(
            "control", "sefa_edge.edge.control.control_process", json.dumps({**config, **fds}), tuple(fds.values())
        )
    )
    try:
        supervisor_end.close()
        policy_end.close()
        assert supervisor.wait(HANG_GUARD_S)
        record = supervisor.receive()
        assert record is not None
        final = unpack_for_supervisor(record, 6)
        assert isinstance(final, Final)
        return final, child.wait(HANG_GUARD_S)
    finally:
        supervisor.close()
        policy.close()
        child.stop(0.0)
        child.close()


@pytest.mark.slow
def test_a_missing_port_is_told_in_the_final_record() -> None:
    final, exit_code = start_and_end(VALID)
    assert (final.mode, final.fault, final.torque) == (Mode.IDLE, Fault.NONE, Torque.UNTOUCHED)
    assert final.exit_code == exit_code == 4
    assert "/nowhere/arm" in final.message
    assert final.hint


@pytest.mark.slow
def test_an_unknown_arm_is_told_in_the_final_record(tmp_path: Path) -> None:
    final, exit_code = start_and_end(VALID | {"arm": str(tmp_path / "none.yaml")})
    assert final.exit_code == exit_code == 2
    assert "none.yaml does not exist" in final.message


def test_a_long_message_is_cut_between_letters() -> None:
    final = Final(Mode.IDLE, Fault.NONE, 0, Torque.UNTOUCHED, ArmLeft.NOT_TOUCHED, 2, 0, 0, "ü" * 300, "x" * 300)
    unpacked = unpack_for_supervisor(final.pack(), 6)
    assert isinstance(unpacked, Final)
    assert unpacked.message == "ü" * 120
    assert unpacked.hint == "x" * 240
