"""What a person may say after `--robot.` on LeRobot's command lines."""

# pyright: reportMissingImports=false
from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lerobot.cameras import CameraConfig
from lerobot.robots.config import RobotConfig


class Ending(Enum):
    """What becomes of the arm when LeRobot disconnects it."""

    hold = "hold"  # it comes to a stand; the servos keep the pose, torque on, until they are told otherwise
    park = "park"  # a slow move to the park pose of its profile, then torque off
    release = "release"  # torque off where it is: it drops


@RobotConfig.register_subclass("sefa_so_follower")
@dataclass
class SefaSOFollowerConfig(RobotConfig):
    """An SO-100/SO-101 follower; `id`, `calibration_dir` and `cameras` as in LeRobot's own."""

    port: str
    arm: str = "so101"
    """Arm profile of sefa-edge: so101, so100, or a .yaml file. Its limits hold, whatever the actions ask for."""
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    use_degrees: bool = True
    """False: body joints in -100..100 of their range, as datasets of LeRobot before 0.4.4 have them."""
    on_disconnect: Ending = Ending.hold
    """LeRobot's own robot switches the torque off here and drops the arm."""
