"""The `--robot.` options on LeRobot's command lines."""

# pyright: reportMissingImports=false
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lerobot.cameras import CameraConfig
from lerobot.robots.config import RobotConfig


class Ending(Enum):
    """How the arm is left when LeRobot disconnects it."""

    hold = "hold"  # stops; the servos hold the pose, torque on, until a program changes that
    park = "park"  # a slow move to the park pose of its profile, then torque off
    release = "release"  # torque off in place: it drops


@RobotConfig.register_subclass("sefa_so_follower")
@dataclass
class SefaSOFollowerConfig(RobotConfig):
    """An SO-100/SO-101 follower; `id`, `calibration_dir` and `cameras` as in LeRobot's own."""

    port: str
    arm: str = "so101"
    """Arm profile of sefa-edge: so101, so100, or a .yaml file. Its limits apply to every action."""
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    use_degrees: bool = True
    """False: body joints in -100..100 of their range, as in datasets of LeRobot before 0.4.4."""
    on_disconnect: Ending = Ending.hold
    """LeRobot's own robot switches the torque off here and drops the arm."""
