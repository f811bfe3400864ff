"""Run with LeRobot's Python: the plugin's robot, created from the command line as in LeRobot's programs.

    python lerobot_plugin_session.py STEPS --robot.type=sefa_so_follower --robot.port=… …

STEPS is a JSON list of steps: ["connect"], ["lead", {action}], ["send", {action}], ["observe"], ["calibrate"],
["disconnect"]. Prints one JSON list, an answer per step, as its last line; an error ends it, and is printed as
LeRobot's programs print it.
"""

# pyright: reportMissingImports=false
# No postponed annotations: LeRobot needs the class in the annotation of `session`, not its name.

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from lerobot.configs import parser
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.utils.import_utils import register_third_party_plugins

STEPS = json.loads(sys.argv.pop(1))
MAX_READS = 2000


@dataclass
class SessionConfig:
    robot: RobotConfig


@parser.wrap()
def session(config: SessionConfig) -> list[Any]:
    robot = make_robot_from_config(config.robot)
    output: list[Any] = [{"name": robot.name, "features": sorted(robot.observation_features)}]
    output += [take(robot, *step) for step in STEPS]
    return output


def take(robot: Robot, name: str, action: dict[str, float] | None = None) -> Any:
    """Do one step; returns the robot's answer."""
    if name == "lead":
        return lead(robot, action or {})
    if name == "send":
        return robot.send_action(action)
    if name == "observe":
        return robot.get_observation()
    return getattr(robot, name)()


def lead(robot: Robot, action: dict[str, float]) -> dict[str, float]:
    """Send an action repeatedly until the arm has arrived; returns the last pose."""
    seen: dict[str, float] = {}
    for _ in range(MAX_READS):
        sent = robot.send_action(action)
        seen = robot.get_observation()
        if all(abs(seen[key] - value) < 1.0 for key, value in sent.items()):
            break
        time.sleep(0.01)
    return seen


if __name__ == "__main__":
    register_third_party_plugins()
    print(json.dumps(session()))  # pyright: ignore[reportCallIssue]  # LeRobot makes the argument from the command line
