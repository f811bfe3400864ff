"""Fixtures for the whole suite: a tiny but real ONNX engine with its policy card."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from sefa_edge.profiles.card import PolicyCard, save_card
from sefa_edge.profiles.files import sha256_of

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")

TAKEN_BACK = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
for number, handler in TAKEN_BACK.items():
    # A shell ignores the first two in what it starts in the background, nohup the third, and every process of a test
    # would inherit that.
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several test files run at a time, what takes long begins first: no worker is left alone with it."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("once") is None)


JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
TARGET_DEG = (20.0, -20.0, 20.0, 15.0, 10.0, 50.0)
HORIZON, EXECUTE_STEPS, PIXELS = 16, 8, 96
VIDEO_KEY, VIDEO_RATE_HZ = "observation.images.front", 10
EngineMaker = Callable[[Path], Path]


@pytest.fixture(scope="session")
def reach_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model.onnx`: moves every joint a little towards a fixed pose, whatever it sees."""
    return write_reach_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def make_reach_engine() -> EngineMaker:
    """Writes that engine into a folder of its own, for tests that damage it."""
    return write_reach_engine


@pytest.fixture(scope="session")
def two_camera_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That engine, looking through `front` and `side`."""
    return write_reach_engine(tmp_path_factory.mktemp("engine"), ("front", "side"))


def write_reach_engine(folder: Path, cameras: tuple[str, ...] = ("front",)) -> Path:
    """chunk[k] = joints + (target - joints) * 3 % * (k + 1) + 0 * noise + 0 * mean(image), run by ONNX Runtime."""
    path = folder / "model.onnx"
    path.write_bytes(_reach_model(cameras))
    save_card(_reach_card(sha256_of(path), cameras), path)
    return path


def _reach_model(cameras: tuple[str, ...]) -> bytes:
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper

    n = len(JOINTS)
    ramp = np.minimum(0.03 * np.arange(1, HORIZON + 1, dtype=np.float32), 1.0)[:, None]
    constants = {
        "target": np.array([TARGET_DEG], np.float32),
        "ramp": ramp,
        "zero": np.zeros((1, 1), np.float32),
        "axes": np.array([0, 1, 2, 3], np.int64),
    }
    looks = [
        helper.make_node("Cast", [f"image_{camera}"], [f"pixels_{camera}"], to=TensorProto.FLOAT) for camera in cameras
    ]
    looks += [
        helper.make_node("ReduceMean", [f"pixels_{camera}", "axes"], [f"brightness_{camera}"], keepdims=0)
        for camera in cameras
    ]
    nodes = [
        *looks,
        helper.make_node("Sum", [f"brightness_{camera}" for camera in cameras], ["brightness"]),
        helper.make_node("Mul", ["brightness", "zero"], ["nothing_seen"]),
        helper.make_node("Mul", ["noise", "zero"], ["nothing_drawn"]),
        helper.make_node("Sub", ["target", "joints"], ["way"]),
        helper.make_node("Mul", ["way", "ramp"], ["steps"]),
        helper.make_node("Add", ["joints", "steps"], ["path"]),
        helper.make_node("Add", ["path", "nothing_seen"], ["seen"]),
        helper.make_node("Add", ["seen", "nothing_drawn"], ["chunk"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reach",
        [
            *(
                helper.make_tensor_value_info(f"image_{camera}", TensorProto.UINT8, [1, PIXELS, PIXELS, 3])
                for camera in cameras
            ),
            helper.make_tensor_value_info("joints", TensorProto.FLOAT, [1, n]),
            helper.make_tensor_value_info("noise", TensorProto.FLOAT, [HORIZON, n]),
        ],
        [helper.make_tensor_value_info("chunk", TensorProto.FLOAT, [HORIZON, n])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def _reach_card(engine_sha256: str, cameras: tuple[str, ...]) -> PolicyCard:
    n = len(JOINTS)
    return PolicyCard.model_validate(
        {
            "schema_version": 2,
            "name": "reach",
            "task": "lift",
            "arm": "so101_sim",
            "engine_file": "model.onnx",
            "engine_sha256": engine_sha256,
            "format": "onnx",
            "precision": "fp32",
            "strongly_typed": False,
            "opset": 18,
            "cameras": [
                {"name": camera, "tensor": f"image_{camera}", "height": PIXELS, "width": PIXELS} for camera in cameras
            ],
            "joints": [
                {
                    "name": name,
                    "unit": "percent" if name == "gripper" else "degrees",
                    "zero": "range_end" if name == "gripper" else "range_middle",
                    "trained_min_deg": 0.0 if name == "gripper" else -90.0,
                    "trained_max_deg": 100.0 if name == "gripper" else 90.0,
                }
                for name in JOINTS
            ],
            "timing": {
                "policy_rate_hz": 10.0,
                "n_obs_steps": 1,
                "horizon": HORIZON,
                "execute_steps": EXECUTE_STEPS,
            },
            "joint_tensor": {"name": "joints", "dtype": "float32", "shape": [1, n]},
            "noise_tensor": {"name": "noise", "dtype": "float32", "shape": [HORIZON, n]},
            "chunk_tensor": {"name": "chunk", "dtype": "float32", "shape": [HORIZON, n]},
            "image_tensors": [
                {"name": f"image_{camera}", "dtype": "uint8", "shape": [1, PIXELS, PIXELS, 3]} for camera in cameras
            ],
            "provenance": {
                "stage": "sefa",
                "network_calls": 1,
                "checkpoint_sha256": "0" * 64,
                "training_sha256": "0" * 64,
                "dataset_sha256": "0" * 64,
                "seed": 0,
                "sefa_edge_version": "0.1.0",
            },
        }
    )


VideoDatasetMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video_dataset() -> VideoDatasetMaker:
    """Writes a small dataset whose camera is a video, laid out as LeRobot 0.4 does."""
    return write_video_dataset


def video_picture(frame: int) -> np.ndarray:
    """Picture uint8 [48, 64, 3] of one frame: grey that tells the frame's number, and a red stripe."""
    picture = np.full((48, 64, 3), 20 + 8 * frame, np.uint8)
    picture[:, 16:32] = (200, 30, 30)
    return picture


def write_video_dataset(folder: Path, codec: str = "h264", lengths: tuple[int, ...] = (5, 4, 6)) -> Path:
    """Episodes one after another in two mp4 files (the first holds all but the last), a key frame every other frame."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("data", "meta/episodes", f"videos/{VIDEO_KEY}"):
        (folder / name / "chunk-000").mkdir(parents=True)
    rows, frames, first = [], [], 0
    for index, length in enumerate(lengths):
        is_last = index == len(lengths) - 1
        start = 0 if is_last else first
        rows.append(
            {
                "episode_index": index,
                "length": length,
                "dataset_from_index": first,
                "dataset_to_index": first + length,
                "data/chunk_index": 0,
                "data/file_index": 0,
                f"videos/{VIDEO_KEY}/chunk_index": 0,
                f"videos/{VIDEO_KEY}/file_index": int(is_last),
                f"videos/{VIDEO_KEY}/from_timestamp": start / VIDEO_RATE_HZ,
                f"videos/{VIDEO_KEY}/to_timestamp": (start + length) / VIDEO_RATE_HZ,
            }
        )
        frames += [(index, step) for step in range(length)]
        first += length
    split = first - lengths[-1]
    write_video(folder / f"videos/{VIDEO_KEY}/chunk-000/file-000.mp4", range(split), codec)
    write_video(folder / f"videos/{VIDEO_KEY}/chunk-000/file-001.mp4", range(split, first), codec)
    vectors = pa.array([[float(frame), 50.0] for frame in range(first)], pa.list_(pa.float32(), 2))
    columns = {
        "observation.state": vectors,
        "action": vectors,
        "timestamp": pa.array([step / VIDEO_RATE_HZ for _, step in frames], pa.float32()),
        "frame_index": pa.array([step for _, step in frames], pa.int64()),
        "episode_index": pa.array([index for index, _ in frames], pa.int64()),
        "index": pa.array(range(first), pa.int64()),
        "task_index": pa.array([0] * first, pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / "data/chunk-000/file-000.parquet")
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    joints = {"dtype": "float32", "shape": [2], "names": ["shoulder_pan.pos", "gripper.pos"]}
    camera = {
        "dtype": "video",
        "shape": [48, 64, 3],
        "names": ["height", "width", "channels"],
        "info": {"has_audio": False},
    }
    info = {
        "codebase_version": "v3.0",
        "fps": VIDEO_RATE_HZ,
        "total_frames": first,
        "total_episodes": len(lengths),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {"observation.state": joints, "action": joints, VIDEO_KEY: camera},
    }
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def write_video(path: Path, frames: range, codec: str) -> None:
    """An mp4 of `video_picture` for each of `frames`, nearly lossless."""
    import av

    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=VIDEO_RATE_HZ, options={"crf": "10", "g": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(video_picture(frame), format="rgb24")))
        container.mux(stream.encode())
    os.sched_setscheduler(0, policy, parameter)  # an AV1 encoder run as root leaves its caller at the highest priority


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight demonstrations of lift, on seeds of their own."""
    from sefa_edge.cli import main

    path = tmp_path_factory.mktemp("data") / "lift"
    words = ["record", "--expert", "lift", "--episodes", "8", "--first-seed", "400000", "-o", str(path)]
    assert main(words) == 0
    return path


@pytest.fixture(scope="session")
def int8_export(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that an export of the shipped checkpoint can make. Needs torch."""
    import yaml

    from sefa_edge.cli import main
    from sefa_edge.profiles.arms import load_arm_profile

    folder = tmp_path_factory.mktemp("int8")
    # So few recordings judge coarsely: the budget is wide here, and the published numbers come from more.
    profile = load_arm_profile("so101_sim").model_dump()
    profile["action_error_budget"]["int8_p99_deg"] = 1.0
    (folder / "arm.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    words = ["--precision", "int8", "--calibration", str(recordings), "--arm", str(folder / "arm.yaml"), "--parts"]
    words += ["--samples", "160", "--closed-loop", "0:3", "--execute-steps", "4"]
    assert main(["export", str(CHECKPOINT), "-o", str(folder / "out"), *words]) == 0
    return folder / "out"


CHECKPOINT = Path(__file__).resolve().parents[1] / "models/results/lift"
