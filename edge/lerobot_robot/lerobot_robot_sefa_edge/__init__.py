"""LeRobot plugin: `--robot.type=sefa_so_follower` is an SO-100/SO-101 arm on the bus of sefa-edge.

LeRobot imports this package because of the name of its distribution (see ../pyproject.toml), creates a
`SefaSOFollowerConfig` from the command line, and looks here for the class of that name without `Config`.
"""

from lerobot_robot_sefa_edge.configuration import SefaSOFollowerConfig
from lerobot_robot_sefa_edge.robot import SefaSOFollower

__all__ = ["SefaSOFollower", "SefaSOFollowerConfig"]
