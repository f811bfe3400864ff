"""Cost of recording for the control loop. A program to run, not a module to import:

    python profiles/benchmarks/recorder_cost.py [--ticks N]

Ticks of the loop on a simulated arm, alternately with and without the taps of `sefa-edge run --record`; microseconds.
"""

from __future__ import annotations

import argparse
import gc
import time
from contextlib import ExitStack, closing

import numpy as np

from sefa_edge.edge.control.clock import ManualClock, MonotonicClock, Pacer
from sefa_edge.edge.control.control_process import ControlConfig, Surroundings, build_loop, control_period_ns
from sefa_edge.edge.control.links import ProcessLinks
from sefa_edge.edge.ipc.records import ControlCommand
from sefa_edge.edge.ipc.sinks import PatientSink
from sefa_edge.edge.ipc.transport import channel_pair
from sefa_edge.edge.ipc.vocabulary import Command
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.percentiles import percentile
from sefa_edge.profiles.quantities import COUNT
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import ns_to_us

HORIZON, TURNS, WARM_UP = 16, 3, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ticks", type=COUNT.parse, default=3000)
    ticks = parser.parse_args().ticks
    for _ in range(TURNS):
        for name, recorded in (("not recorded", False), ("recorded", True)):
            taken_us = tick_us(ticks, recorded)
            p50, p99 = percentile(taken_us, 0.5), percentile(taken_us, 0.99)
            print(f"{name:<12} p50 {p50:7.1f}  p99 {p99:7.1f} us a tick")


def tick_us(ticks: int, recorded: bool) -> np.ndarray:
    """Durations of the ticks, us; the readers drain their channels between ticks."""
    profile = load_arm_profile(SIMULATED_ARM)
    config = ControlConfig(
        arm=SIMULATED_ARM, port="", calibration=None, horizon=HORIZON, supervisor_fd=0, policy_fd=0
    )  # fmt: skip
    clock = ManualClock()
    arm = PlantArm(profile, KinematicPlant.of_arm(profile, clock.now_ns), clock.now_ns)
    with ExitStack() as stack:
        ends = [stack.enter_context(closing(end)) for _ in range(3) for end in channel_pair()]
        supervisor, supervisor_end, policy, policy_end, recorder, recorder_end = ends
        links = ProcessLinks(supervisor_end, policy_end, HORIZON, len(profile.joints))
        surroundings = Surroundings(MonotonicClock(), links, lambda: arm)
        loop = build_loop(config, profile, surroundings, PatientSink(recorder_end) if recorded else None)
        pacer = Pacer(clock, control_period_ns(config, profile))
        supervisor.send(ControlCommand(Command.ARM).pack())
        taken = []
        gc.collect()
        gc.disable()
        for _ in range(ticks + WARM_UP):
            slot = pacer.wait()
            began_ns = time.perf_counter_ns()
            loop.tick(slot)
            taken.append(ns_to_us(time.perf_counter_ns() - began_ns))
            for reader in (supervisor, policy, recorder):
                for _ in reader.drain():
                    pass
        gc.enable()
    return np.array(taken[WARM_UP:])


if __name__ == "__main__":
    main()
