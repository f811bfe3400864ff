"""An arm is looked at before it is switched on, and another arm than the first is not switched on at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefa_edge.edge.control.paced import start_following
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.errors import ArmFault, OtherArm
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.firmware_bridge.host.same_arm import SameArm
from sefa_edge.firmware_bridge.simulation.servo import SimulatedServo
from tests.firmware_bridge.service.test_arm_bench import arm
from tests.rigs.bench_arm import Bench, arm_on_the_bench

ELBOW = 2
Captured = pytest.CaptureFixture[str]


def trouble_of(servo: SimulatedServo, trouble: dict[str, int]) -> None:
    for name, value in trouble.items():
        setattr(servo, name, value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"supply_mv": 12_000}, "the servos' supply voltage is out of range: arm not touched"),
        ({"fault_bits": 0x20}, r"a servo reports a fault \(elbow_flex: overload\): arm not touched"),
        ({"temperature_c": 68}, r"a servo is too hot \(elbow_flex\): arm not touched"),
    ],
)
def test_a_program_that_leads_the_arm_does_not_switch_it_on(tmp_path: Path, trouble: dict[str, int], says: str) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        for servo in bench.bus.servos if "supply_mv" in trouble else [bench.bus.servos[ELBOW]]:
            trouble_of(servo, trouble)
        with pytest.raises(ArmFault, match=says):
            start_following(bench.profile, lambda: _open(bench))
        assert bench.torque() == [0] * 6
        _open(bench).close()  # its port is free again


@pytest.mark.slow
def test_torque_that_was_on_already_is_reported(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        for servo in bench.bus.servos[:2]:
            servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))
        trouble_of(bench.bus.servos[ELBOW], {"fault_bits": 0x20})
        with pytest.raises(
            ArmFault, match=r"arm not touched; its torque was already on in shoulder_pan, shoulder_lift"
        ):
            start_following(bench.profile, lambda: _open(bench))


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["park", "center"])
def test_a_joint_outside_its_servos_range_is_not_switched_on(tmp_path: Path, capsys: Captured, verb: str) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        position = bench.bus.servos[ELBOW].register(reg.PRESENT_POSITION)
        bench.bus.servos[ELBOW].set_register(reg.MAX_POSITION, position - 60)
        bench.bus.servos[ELBOW].set_register(reg.MIN_POSITION, position - 60 - 2000)
        assert arm(bench, verb, "--speed", "60") == 3
        assert bench.torque() == [0] * 6
    told = capsys.readouterr().err
    assert "a joint would jump if it were switched on (elbow_flex at " in told
    assert "5.3 degrees outside its servo's" in told
    assert "hint: move it inside by hand" in told


@pytest.mark.slow
def test_the_arm_that_comes_back_is_the_arm_that_left(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        open_arm = SameArm(lambda: _open(bench))
        open_arm().close()
        open_arm().close()
        bench.bus.servos[ELBOW].set_register(reg.HOMING_OFFSET, 30)
        with pytest.raises(
            OtherArm, match="another arm answers on this port: homing offset of elbow_flex is 30, was 0"
        ):
            open_arm()
        bench.bus.servos[ELBOW].set_register(reg.HOMING_OFFSET, 0)
        open_arm().close()  # the other one's port was given back
        assert bench.torque() == [0] * 6


def test_a_process_that_takes_over_expects_the_arm_of_the_first(tmp_path: Path) -> None:
    with arm_on_the_bench(tmp_path) as bench:
        first = _open(bench)
        first.close()
        bench.bus.servos[ELBOW].set_register(reg.MIN_POSITION, 900)
        with pytest.raises(OtherArm, match="lowest position of elbow_flex is 900, was 946"):
            SameArm(lambda: _open(bench), first.identity)()


def _open(bench: Bench) -> Arm:
    return open_feetech_arm(bench.profile, bench.port.path, None)
