"""The simulated arm: packet-level servos, MuJoCo world, rendered cameras.

MuJoCo reads these variables when it is first imported, so they are set here, before any module of this folder.
"""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
os.environ.setdefault("LP_NUM_THREADS", "1")  # keeps the software rasteriser on one core
