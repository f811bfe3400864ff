"""Run with LeRobot's Python: its own SO-101 follower driver connects, configures, reads, moves and disconnects.

    python lerobot_driver_session.py PORT degrees|percent hold|drop

Prints one JSON object as its last line.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
import time

from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

TARGETS = {"degrees": 20.0, "percent": 30.0}
GRIPPER = 60.0
MAX_READS = 2000


def main() -> None:
    port, unit, ending = sys.argv[1:]
    config = SO101FollowerConfig(
        port=port, id="bench", use_degrees=unit == "degrees", disable_torque_on_disconnect=ending == "drop"
    )
    robot = SO101Follower(config)
    robot.connect()
    output = {"calibrated": robot.is_calibrated, "before": robot.get_observation()}
    target = {key: GRIPPER if key == "gripper.pos" else TARGETS[unit] for key in robot.action_features}
    output["sent"] = robot.send_action(target)
    output["after"] = watch(robot, target)
    output["temperature"] = robot.bus.sync_read("Present_Temperature")
    output["voltage"] = robot.bus.sync_read("Present_Voltage", normalize=False)
    output["torque"] = robot.bus.sync_read("Torque_Enable", normalize=False)
    output["load"] = robot.bus.sync_read("Present_Load", normalize=False)
    output["firmware"] = robot.bus.ping("elbow_flex")
    output["all"] = robot.bus.broadcast_ping()
    robot.disconnect()
    print(json.dumps(output))


def watch(robot: SO101Follower, target: dict[str, float]) -> dict[str, float]:
    """The pose once the arm has arrived, or the last one read."""
    seen: dict[str, float] = {}
    for _ in range(MAX_READS):
        seen = robot.get_observation()
        if all(abs(seen[key] - value) < 1.0 for key, value in target.items()):
            break
        time.sleep(0.005)
    return seen


if __name__ == "__main__":
    main()
