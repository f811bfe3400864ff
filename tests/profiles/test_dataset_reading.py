"""Recordings as numpy arrays: only the requested images are decoded, and every error is one line."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sefa_edge.edge.pictures import decode_picture, encode_png
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.recording.windows import history, read_windows

NAMES = ("shoulder_pan", "gripper")
LENGTHS = (5, 1, 70)
DATA = "data/chunk-000/file-000.parquet"
CAMERA = "observation.images.front"


def episode(index: int, length: int) -> Episode:
    rng, made = np.random.default_rng(index), Episode()
    for _ in range(length):
        image = rng.integers(0, 256, (24, 32, 3), np.uint8)
        made.append(rng.normal(size=2), rng.normal(size=2), {"front": image})
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path / "demo", DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    for index, length in enumerate(LENGTHS):
        writer.add(episode(index, length))
    writer.close()
    return tmp_path / "demo"


class CountingDecoder:
    """The real decoder, with a count of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, content: bytes) -> np.ndarray:
        self.calls += 1
        return decode_picture(content)


def test_everything_is_read_as_recorded(folder: Path) -> None:
    dataset = open_dataset(folder)
    episodes = [episode(index, length) for index, length in enumerate(LENGTHS)]
    assert (dataset.info.joint_names, dataset.info.rate_hz, len(dataset)) == (NAMES, 10.0, sum(LENGTHS))
    assert (dataset.joint_deg.dtype, dataset.action_deg.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(dataset.joint_deg, np.concatenate([made.joint_deg for made in episodes]))
    np.testing.assert_array_equal(dataset.action_deg, np.concatenate([made.action_deg for made in episodes]))
    np.testing.assert_array_equal(dataset.episode, np.repeat([0, 1, 2], LENGTHS))
    assert dataset.episode_start[[0, 4, 5, 6, 75]].tolist() == [0, 0, 5, 6, 6]
    assert dataset.episode_end[[0, 4, 5, 6, 75]].tolist() == [5, 5, 6, 76, 76]
    images = np.concatenate([made.images["front"] for made in episodes])
    streamed = list(dataset.stream("front", np.arange(len(dataset)), decode_picture))
    np.testing.assert_array_equal(streamed, images)


def test_only_the_requested_images_are_decoded(folder: Path) -> None:
    dataset, decoder = open_dataset(folder), CountingDecoder()
    frames = np.array([75, 2, 2, 5, 70])
    images = np.concatenate([episode(index, length).images["front"] for index, length in enumerate(LENGTHS)])
    np.testing.assert_array_equal(dataset.pictures("front", frames, decoder), images[frames])
    assert decoder.calls == 4
    assert dataset.pictures("front", frames[:0], decoder).shape == (0, 24, 32, 3)


@pytest.mark.slow
def test_many_files_are_one_dataset(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "demo", DatasetInfo("lift", "so101_follower", 10, NAMES, {"front": (24, 32)}))
    for index in range(102):
        writer.add(episode(index, 2))
    writer.close()
    dataset = open_dataset(tmp_path / "demo")
    assert [(file.start, file.end) for file in dataset.files] == [(0, 200), (200, 204)]
    picture = dataset.pictures("front", np.array([203, 0]), decode_picture)
    np.testing.assert_array_equal(picture[0], episode(101, 2).images["front"][1])
    np.testing.assert_array_equal(picture[1], episode(0, 2).images["front"][0])


def test_a_fingerprint_depends_on_the_metadata(folder: Path) -> None:
    before = open_dataset(folder).fingerprint()
    assert open_dataset(folder).fingerprint() == before
    edit_info(folder, total_hours=20)
    assert open_dataset(folder).fingerprint() != before


def test_names_may_be_nested_and_unknown_keys_are_ignored(folder: Path) -> None:
    names = {"motors": ["shoulder_pan.pos", "gripper.pos"]}
    edit_feature(folder, "action", names=names, unknown_key=[1, {"a": None}])
    edit_feature(folder, "observation.state", names=names)
    edit_info(folder, total_hours=3.5)
    assert open_dataset(folder).info.joint_names == NAMES


def test_lists_of_any_length_are_read_when_they_fit(folder: Path) -> None:
    table = pq.read_table(folder / DATA)
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64())):
        plain = pa.array(table["action"].to_pylist(), kind)
        pq.write_table(table.set_column(1, "action", plain), folder / DATA)
        dataset = open_dataset(folder)
        assert dataset.action_deg.dtype == np.float32
        np.testing.assert_array_equal(dataset.action_deg[:5], episode(0, 5).action_deg)


def test_a_window_looks_back_but_never_into_another_episode(folder: Path) -> None:
    dataset = open_dataset(folder)
    steps = history(dataset, np.array([0, 4, 5, 7, 20]), n_obs_steps=3, spacing_steps=2)
    assert steps.tolist() == [[0, 0, 0], [0, 2, 4], [5, 5, 5], [6, 6, 7], [16, 18, 20]]
    windows = read_windows(dataset, steps, ["front"], decode_picture)
    assert (len(windows), windows.joint_deg.shape) == (5, (5, 3, 2))
    np.testing.assert_array_equal(windows.joint_deg[4, 1], dataset.joint_deg[18])
    picture = dataset.pictures("front", np.array([18]), decode_picture)[0]
    np.testing.assert_array_equal(windows.images["front"][4, 1], picture)


def edit_info(folder: Path, **changes: object) -> None:
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_feature(folder: Path, name: str, **changes: object) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features[name] = {**features.get(name, {}), **changes}
    edit_info(folder, features=features)


def edit_column(folder: Path, name: str, edit: Callable[[list], object], kind: pa.DataType | None = None) -> None:
    """Rewrite one column of the data file from its edited Python values."""
    table = pq.read_table(folder / DATA)
    values = table[name].to_pylist()
    edit(values)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, pa.array(values, kind or table[name].type)), folder / DATA)


def rename_feature(folder: Path, name: str, other: str) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features[other] = features.pop(name)
    edit_info(folder, features=features)


def put(index: int, value: object) -> Callable[[list], None]:
    def edit(values: list) -> None:
        values[index] = value

    return edit


def put_all(rows: list) -> Callable[[list], None]:
    def edit(values: list) -> None:
        values[:] = (rows * len(values))[: len(values)]

    return edit


def put_image(content: bytes) -> Callable[[Path], None]:
    return lambda folder: edit_column(folder, CAMERA, put(3, {"bytes": content, "path": "x.png"}))


def png_header(height: int, width: int) -> bytes:
    """A complete PNG header that declares this size, and nothing after it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def drop_column(folder: Path, name: str) -> None:
    pq.write_table(pq.read_table(folder / DATA).drop_columns([name]), folder / DATA)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


GOOD = encode_png(np.zeros((24, 32, 3), np.uint8))
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no info": (lambda f: (f / "meta/info.json").unlink(), "not a LeRobot dataset"),
    "info is a list": (lambda f: (f / "meta/info.json").write_text("[]"), "not a LeRobot dataset"),
    "info is deep": (lambda f: (f / "meta/info.json").write_text("[" * 90_000), "nested deeper than 32 levels"),
    "info is huge": (lambda f: (f / "meta/info.json").write_text(" " * 2_000_000), "larger than"),
    "info is not text": (lambda f: (f / "meta/info.json").write_bytes(b"\xff\xff"), "is not a text file"),
    "old version": (lambda f: edit_info(f, codebase_version="v2.1"), "v2.1"),
    "path traversal, data": (lambda f: edit_info(f, data_path="../../{chunk_index}.parquet"), "data_path is not"),
    "attribute access": (lambda f: edit_info(f, data_path="{chunk_index.__class__}"), "data_path is not"),
    "path traversal, video": (lambda f: edit_info(f, video_path="/etc/{video_key}"), "video_path is not"),
    "rate is not a number": (lambda f: edit_info(f, fps=float("nan")), "NaN is not a number"),
    "no frames": (lambda f: edit_info(f, total_frames=0), "total_frames"),
    "absurdly many frames": (lambda f: edit_info(f, total_frames=10**12), "total_frames"),
    "too many frames": (lambda f: edit_info(f, total_frames=75), "expected at most 75"),
    "too few frames": (lambda f: edit_info(f, total_frames=77), "has 76 frames, meta/info.json says 77"),
    "no action": (lambda f: rename_feature(f, "action", "actions"), "'action' is missing"),
    "other joints in state": (
        lambda f: edit_feature(f, "observation.state", names=["gripper.pos", "shoulder_pan.pos"]),
        "contradicts itself",
    ),
    "dimension": (lambda f: edit_feature(f, "observation.state", shape=[3]), "contradicts itself"),
    "the same joint twice": (lambda f: edit_feature(f, "action", names=["a.pos", "a.pos"]), "different words"),
    "control characters": (lambda f: edit_feature(f, "action", names=["a", "\x1b[2J"]), "different words"),
    "no camera": (lambda f: rename_feature(f, CAMERA, "image"), "has no images"),
    "camera leaves the folder": (lambda f: rename_feature(f, CAMERA, "observation.images.../../x"), "not a camera"),
    "camera of another type": (lambda f: edit_feature(f, CAMERA, dtype="depth"), "of type 'depth'"),
    "absurd image size": (lambda f: edit_feature(f, CAMERA, shape=[10**9, 32, 3]), "up to 4096"),
    "grey images": (lambda f: edit_feature(f, CAMERA, shape=[24, 32, 1]), "expected \\[height, width, 3\\]"),
    "not a video": (lambda f: edit_feature(f, CAMERA, dtype="video"), "no column 'videos/"),
    "no data": (lambda f: (f / DATA).unlink(), "no data files"),
    "data truncated": (lambda f: truncate(f / DATA), "cannot be read"),
    "data is text": (lambda f: (f / DATA).write_text("PAR1 PAR1"), "cannot be read"),
    "column missing": (lambda f: drop_column(f, "action"), "no column 'action'"),
    "NaN": (lambda f: edit_column(f, "observation.state", put(7, [0.0, float("nan")])), "of gripper at frame 7 is nan"),
    "infinity": (lambda f: edit_column(f, "action", put(2, [float("-inf"), 0.0])), "action of shoulder_pan at frame 2"),
    "hole": (lambda f: edit_column(f, "action", put(2, None)), "not 2 number|lists to be of size=2"),
    "hole in a row": (lambda f: edit_column(f, "action", put(2, [0.0, None])), "not 2 number"),
    "ragged": (
        lambda f: edit_column(f, "action", put_all([[1.0], [1.0] * 3]), pa.list_(pa.float32())),
        "not 2 number",
    ),
    "text": (
        lambda f: edit_column(f, "action", put_all([["a", "b"]]), pa.list_(pa.string())),
        "expected numbers",
    ),
    "episodes out of order": (lambda f: edit_column(f, "episode_index", put(0, 2)), "not in order"),
    "negative episode": (lambda f: edit_column(f, "episode_index", put(0, -1)), "not in order"),
}  # fmt: skip
IMAGE_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "column missing": (lambda f: drop_column(f, CAMERA), "no column 'observation.images.front'"),
    "kept elsewhere": (
        lambda f: edit_column(f, CAMERA, put(3, {"bytes": None, "path": "/etc/passwd"})),
        "not an image",
    ),
    "numbers": (
        lambda f: edit_column(f, CAMERA, put_all([7]), pa.int64()),
        "not an image",
    ),
    "JPEG": (put_image(b"\xff\xd8\xff\xe0" + bytes(100)), "row 3: the image ends too early"),
    "empty": (put_image(b""), "row 3: the image is neither PNG nor JPEG"),
    "bomb": (put_image(png_header(60_000, 60_000)), "is 60000x60000, meta/info.json says 32x24"),
    "head only": (put_image(png_header(24, 32)), "row 3: the image ends too early"),
    "another size": (put_image(encode_png(np.zeros((32, 24, 3), np.uint8))), "is 24x32"),
    "truncated": (put_image(GOOD[:-20]), "row 3: the image ends too early"),
    "head only, closed": (put_image(png_header(24, 32) + GOOD[-12:]), "row 3: the picture is damaged"),
    "flipped byte": (put_image(GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:]), "row 3: the picture is damaged"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_dataset_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(folder)
    assert_one_line(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_DAMAGES)
def test_a_damaged_image_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, message = IMAGE_DAMAGES[name]
    damage(folder)
    dataset = open_dataset(folder)
    with pytest.raises(InputError, match=message) as caught:
        dataset.pictures("front", np.array([3]), decode_picture)
    assert_one_line(caught.value)


def test_a_missing_camera_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no camera 'wrist'"):
        open_dataset(folder).pictures("wrist", np.array([0]), decode_picture)


@pytest.mark.slow
def test_flipped_bytes_never_end_in_a_traceback(folder: Path) -> None:
    content, rng = (folder / DATA).read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        # The directory of the file is at its end: half of the damage is made there.
        low = int(rng.choice([0, len(damaged) - 2000]))
        damaged[rng.integers(low, len(damaged), 4)] = rng.integers(0, 256, 4)
        (folder / DATA).write_bytes(damaged.tobytes())
        try:
            open_dataset(folder).pictures("front", np.arange(sum(LENGTHS)), decode_picture)
        except InputError as error:
            refused += 1
            assert_one_line(error)
    assert refused > 20


def assert_one_line(error: InputError) -> None:
    assert "\n" not in str(error)
    assert "\n" not in error.hint
