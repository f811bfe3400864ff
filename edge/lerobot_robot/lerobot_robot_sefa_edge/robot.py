"""The arm as a LeRobot `Robot`. Written against LeRobot 0.4.4; the same calls are in 0.6.

Unlike LeRobot's own follower it never prompts on standard input, writes nothing to the servos' EEPROM, never switches
the torque off on connecting, and sends no goal that has not passed the limiter. LeRobot's thread sets targets at its
own rate; a thread here moves the arm towards them at the control rate of its profile.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from lerobot.cameras.utils import make_cameras_from_configs
from lerobot.robots.robot import Robot
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected

from lerobot_robot_sefa_edge.configuration import Ending, SefaSOFollowerConfig
from lerobot_robot_sefa_edge.joint_units import JointUnits
from sefa_edge.edge.control.paced import PacedFollower, start_following
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.calibration import Calibration, load_calibration
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.open_arm import open_arm
from sefa_edge.firmware_bridge.host.port_choice import require_identified_arm
from sefa_edge.firmware_bridge.host.same_arm import SameArm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, SefaError

logger = logging.getLogger(__name__)


class SefaArmError(RuntimeError):
    """An error of the arm, with its hint; LeRobot prints both."""


class SefaSOFollower(Robot):
    """An SO-100/SO-101 follower controlled by sefa-edge."""

    config_class = SefaSOFollowerConfig
    name = "so_follower"
    """The name of LeRobot's own, so that its calibration files and datasets remain usable."""

    def __init__(self, config: SefaSOFollowerConfig) -> None:
        super().__init__(config)
        self.config = config
        with _hints_in_messages():
            self._profile = load_arm_profile(config.arm)
            self._calibration_file = self._find_calibration()
            calibration = self._load_calibration_file()
            if calibration is None and not config.use_degrees:
                raise InputError(
                    f"use_degrees=false needs the arm's calibration, but {self.calibration_fpath} does not exist",
                    "give the id that it was calibrated with (--robot.id=...)",
                )
            self._units = JointUnits(self._profile, None if config.use_degrees else calibration)
        self.cameras = make_cameras_from_configs(config.cameras)
        self._follower: PacedFollower | None = None
        self._arm: ArmIdentity | None = None
        """The first arm that was connected: another one on its port is refused."""
        self._target_deg = np.zeros(0)

    @cached_property
    def observation_features(self) -> dict[str, type | tuple[int, int, int]]:
        images = {name: (camera.height, camera.width, 3) for name, camera in self.config.cameras.items()}
        return {**self.action_features, **images}

    @cached_property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self._units.keys, float)

    @property
    def is_connected(self) -> bool:
        """Whether the arm is connected; after a fault it remains so until `disconnect`."""
        return self._follower is not None

    @property
    def is_calibrated(self) -> bool:
        """Always true while connected: `connect` refuses an arm that is not calibrated."""
        return self.is_connected

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Open cameras and arm, and hold the arm's present pose. `calibrate` is ignored: there is no prompt.

        Raises:
            SefaArmError: the arm cannot be opened, does not answer, or differs from its calibration file.
        """
        with ExitStack() as undo, _hints_in_messages():
            for camera in self.cameras.values():
                camera.connect()
                undo.callback(camera.disconnect)
            calibration = self._load_calibration_file()
            if calibration is None:
                require_identified_arm(self.config.port)
                logger.info("%s does not exist: the calibration in the servos counts", self.calibration_fpath)
            emergency = Emergency()
            open_same = SameArm(lambda: open_arm(self._profile, self.config.port, calibration, emergency), self._arm)
            self._follower = start_following(self._profile, open_same, emergency)
            self._arm = open_same.expected
            self._target_deg = self._follower.state.joint_deg
            undo.pop_all()
        logger.info("%s connected, torque on at its present pose", self)

    def calibrate(self) -> None:
        """Not supported. Raises SefaArmError with a hint."""
        raise SefaArmError(
            "this robot reads calibrations, it does not make them\n"
            "hint: lerobot-calibrate --robot.type=so101_follower --robot.port=... --robot.id=..., and the same id here"
        )

    def configure(self) -> None:
        """Do nothing: the servos keep their settings."""

    @check_if_not_connected
    def get_observation(self) -> dict[str, float | np.ndarray]:
        """Joint values of the newest reading, and the newest image of each camera. Raises SefaArmError: a fault."""
        with _hints_in_messages():
            values = self._units.to_lerobot(self._connected().state.joint_deg)
        return {**values, **{name: camera.read_latest() for name, camera in self.cameras.items()}}

    @check_if_not_connected
    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        """Move the arm towards this pose; returns the pose clipped to the limits.

        Raises:
            SefaArmError: a fault has stopped the arm, the action is not a number, or it names an unknown joint.
        """
        with _hints_in_messages():
            wanted_deg = self._units.to_deg(action, self._target_deg)
            self._target_deg = self._connected().set_target(wanted_deg)
        return self._units.to_lerobot(self._target_deg)

    @check_if_not_connected
    def disconnect(self) -> None:
        """End as `on_disconnect` says, and close port and cameras. Raises SefaArmError: the arm did not end so."""
        follower, self._follower = self._connected(), None
        with ExitStack() as last, _hints_in_messages():
            for camera in self.cameras.values():
                last.callback(camera.disconnect)
            last.callback(follower.close)
            endings = {Ending.hold: follower.hold, Ending.park: follower.park, Ending.release: follower.release}
            endings[self.config.on_disconnect]()
        logger.info("%s disconnected (%s)", self, self.config.on_disconnect.value)

    def _connected(self) -> PacedFollower:
        if self._follower is None:
            raise SefaArmError("the arm is not connected")
        return self._follower

    def _find_calibration(self) -> Path:
        """LeRobot's file of this id; up to LeRobot 0.4.2 it was in a folder named after the arm."""
        older = self.calibration_dir.with_name(f"{self._profile.name}_follower") / f"{self.id}.json"
        return older if older.is_file() and not self.calibration_fpath.is_file() else self.calibration_fpath

    def _load_calibration_file(self) -> Calibration | None:
        if not self._calibration_file.is_file():
            return None
        return load_calibration(self._calibration_file, self._profile)


@contextmanager
def _hints_in_messages() -> Iterator[None]:
    """Append hints to the messages: LeRobot prints only the message of an exception."""
    try:
        yield
    except SefaError as error:
        raise SefaArmError(f"{error}\nhint: {error.hint}" if error.hint else str(error)) from error
