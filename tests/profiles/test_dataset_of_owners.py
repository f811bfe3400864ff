"""Datasets that users really have: odd names and features, other encodings and versions, partial downloads."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sefa_edge.edge.pictures import decode_picture, encode_png
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter, Episode
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.recording.fitness import check_exportable
from sefa_edge.profiles.recording.recordings import PolicyInputs, check_shows

ARM = load_arm_profile("so101")
DATA = "data/chunk-000/file-000.parquet"
CAMERA = "observation.images.front"
LENGTHS = (4, 3)
FRAMES = sum(LENGTHS)
SHARED = Path(__file__).parents[3] / "shared"
MakeVideoDataset = Callable[..., Path]


def picture(frame: int) -> np.ndarray:
    return np.full((24, 32, 3), 10 + 20 * frame, np.uint8)


def write_dataset(
    folder: Path, names: tuple[str, ...] = ARM.joint_names, cameras: tuple[str, ...] = ("front",)
) -> Path:
    info = DatasetInfo("lift", "so101_follower", 10, names, dict.fromkeys(cameras, (24, 32)))
    writer, frame = DatasetWriter(folder, info), 0
    for length in LENGTHS:
        episode = Episode()
        for _ in range(length):
            episode.append(
                np.full(len(names), frame), np.full(len(names), frame), dict.fromkeys(cameras, picture(frame))
            )
            frame += 1
        writer.add(episode)
    writer.close()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "demo")


def read_info(folder: Path) -> dict:
    return json.loads((folder / "meta/info.json").read_text())


def edit_info(folder: Path, edit: Callable[[dict], object]) -> None:
    info = read_info(folder)
    edit(info)
    (folder / "meta/info.json").write_text(json.dumps(info))


def replace_column(folder: Path, name: str, values: list, kind: pa.DataType | None = None) -> None:
    table = pq.read_table(folder / DATA)
    column = pa.array(values, kind)
    place = table.schema.get_field_index(name)
    table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    pq.write_table(table, folder / DATA)


def jpeg(frame: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(frame)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def shades(folder: Path, camera: str = "front") -> list[int]:
    pictures = open_dataset(folder).pictures(camera, np.arange(FRAMES), decode_picture)
    return [round(float(image.mean())) for image in pictures]


EXPECTED = [10 + 20 * frame for frame in range(FRAMES)]


def test_a_camera_name_may_have_dots_and_begin_with_the_name_of_another(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "demo", cameras=("wrist.right", "wrist"))
    assert list(open_dataset(folder).info.cameras) == ["wrist.right", "wrist"]
    assert shades(folder, "wrist.right") == shades(folder, "wrist") == EXPECTED


def test_features_that_no_policy_uses_are_skipped(folder: Path) -> None:
    odd: dict[str, object] = {
        "observation.audio": {"dtype": "audio", "shape": [48000], "names": None},
        "language_instruction": {"dtype": "string", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "observation.tactile": {"dtype": "float32", "shape": [2, 2], "names": {"a": {"b": [1]}}},
        "strange": "not even an object",
        "no shape": {"dtype": None},
        "never recorded": {"dtype": "float32", "shape": ["?"], "names": 7},
    }
    edit_info(folder, lambda info: info["features"].update(odd))
    replace_column(folder, "language_instruction", ["lift it"] * FRAMES)
    replace_column(folder, "observation.tactile", [[[1.0, 2.0], [3.0, None]]] * FRAMES)
    replace_column(folder, "next.done", [False] * FRAMES)
    replace_column(folder, "observation.audio", [{"bytes": b"x", "path": None}] * FRAMES)
    dataset = open_dataset(folder)
    assert dataset.info.joint_names == ARM.joint_names
    assert shades(folder) == EXPECTED


def test_a_camera_without_colours_is_left_out_with_a_note(folder: Path) -> None:
    depth = {"dtype": "image", "shape": [24, 32, 1], "names": ["height", "width", "channels"]}
    edit_info(folder, lambda info: info["features"].update({"observation.images.depth": depth}))
    info = open_dataset(folder).info
    assert list(info.cameras) == ["front"]
    (note,) = info.notes
    assert note.startswith("left out: observation.images.depth has shape [24, 32, 1]")


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ([3, 24, 32], ["channels", "height", "width"], (24, 32)),
        ([3, 24, 32], ["channel", "height", "width"], (24, 32)),
        ([24, 32, 3], ["height", "width", "channel"], (24, 32)),
        ([32, 24, 3], ["width", "height", "channels"], (24, 32)),
        ([3, 24, 32], None, (24, 32)),
        ([24, 32, 3], None, (24, 32)),
    ],
)
def test_the_axes_of_images_are_read_by_their_names(
    folder: Path, shape: list[int], names: list[str] | None, expected: tuple[int, int]
) -> None:
    edit_info(folder, lambda info: info["features"][CAMERA].update(shape=shape, names=names))
    camera = open_dataset(folder).info.cameras["front"]
    assert (camera.height, camera.width) == expected
    assert shades(folder) == EXPECTED


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_jpeg_in_parquet_is_read(folder: Path, kind: str) -> None:
    contents = [jpeg(frame) for frame in range(FRAMES)]
    if kind == "struct":
        replace_column(folder, CAMERA, [{"bytes": content, "path": "f.jpg"} for content in contents])
    else:
        replace_column(folder, CAMERA, contents, pa.large_binary() if kind == "large_binary" else pa.binary())
    assert shades(folder) == EXPECTED


def test_a_jpeg_without_its_end_is_refused_with_its_row(folder: Path) -> None:
    contents = [jpeg(frame) for frame in range(FRAMES)]
    contents[2] = contents[2][:-2]
    replace_column(folder, CAMERA, [{"bytes": content, "path": None} for content in contents])
    with pytest.raises(InputError, match="row 2: the image ends too early"):
        shades(folder)


def test_images_that_are_only_paths_are_reported(folder: Path) -> None:
    replace_column(folder, CAMERA, [{"bytes": None, "path": "images/0.png"}] * FRAMES, pa.struct(
        {"bytes": pa.binary(), "path": pa.string()}
    ))  # fmt: skip
    with pytest.raises(InputError, match="is only the path of a file, not an image"):
        shades(folder)


def test_a_camera_that_is_absent_in_one_episode_is_named_with_it(folder: Path) -> None:
    cells = [{"bytes": encode_png(picture(frame)), "path": "x"} if frame < 4 else None for frame in range(FRAMES)]
    replace_column(folder, CAMERA, cells)
    with pytest.raises(InputError, match=r"camera 'front' is missing in episode 1 \(frame 0 of it"):
        shades(folder)


def test_a_video_camera_that_is_absent_in_one_episode_is_named_with_it(
    tmp_path: Path, make_video_dataset: MakeVideoDataset
) -> None:
    folder = make_video_dataset(tmp_path / "demo")
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    for key in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"):
        rows[1][f"videos/{CAMERA}/{key}"] = None
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(InputError, match="camera 'front' is missing in episode 1: meta/episodes names no video"):
        open_dataset(folder)


def test_a_partial_download_names_the_missing_files(tmp_path: Path, make_video_dataset: MakeVideoDataset) -> None:
    folder = make_video_dataset(tmp_path / "demo")
    video = folder / f"videos/{CAMERA}/chunk-000/file-001.mp4"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    video.write_bytes(pointer)
    with pytest.raises(InputError, match=r"file-001\.mp4 is only a Git LFS pointer") as refused:
        open_dataset(folder)
    assert "git lfs pull" in refused.value.hint
    video.unlink()
    with pytest.raises(InputError, match=r"file-001\.mp4 does not exist; 1 of 2 videos are missing"):
        open_dataset(folder)
    (folder / DATA).write_bytes(pointer)
    with pytest.raises(InputError, match=r"file-000\.parquet is only a Git LFS pointer"):
        open_dataset(folder)


def test_a_byte_order_mark_is_accepted(folder: Path) -> None:
    path = folder / "meta/info.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert shades(folder) == EXPECTED


@pytest.mark.parametrize(
    ("version", "command"),
    [
        ("v2.1", "convert_dataset_v21_to_v30 --repo-id=demo --root={} --push-to-hub=false"),
        ("2.1", "convert_dataset_v21_to_v30 --repo-id=demo --root={} --push-to-hub=false"),
        ("v2.0", "convert_dataset_v20_to_v21 --repo-id=USER/NAME"),
        ("v1.6", "LeRobot's own scripts"),
    ],
)
def test_the_hint_for_another_version_says_how_to_convert_it(folder: Path, version: str, command: str) -> None:
    edit_info(folder, lambda info: info.update(codebase_version=version))
    with pytest.raises(InputError, match=f"format '{version}', expected 'v3.0'") as refused:
        open_dataset(folder)
    assert refused.value.hint.startswith("convert it")
    assert command.format(folder.parent) in refused.value.hint


def encoded(mode: str, kind: str, frame: int) -> bytes:
    """An image as a file of type `kind` with pixels of Pillow's `mode`."""
    grey = picture(frame)[..., 0].astype(np.uint16) * 257
    image = Image.fromarray(grey) if mode == "I;16" else Image.fromarray(picture(frame)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [("CMYK", "JPEG", "has 4 components, like CMYK"), ("I;16", "PNG", "has 16 bits per sample, like a depth map")],
)
def test_images_that_decoders_disagree_about_are_refused(folder: Path, mode: str, kind: str, reason: str) -> None:
    replace_column(folder, CAMERA, [encoded(mode, kind, frame) for frame in range(FRAMES)])
    with pytest.raises(InputError, match=f"row 0: the picture {reason}"):
        shades(folder)


@pytest.mark.learn
@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")])
def test_grey_and_transparent_images_are_the_same_for_both_decoders(folder: Path, mode: str, kind: str) -> None:
    from sefa_edge.models.dataset import decode_picture as decode_for_training

    replace_column(folder, CAMERA, [encoded(mode, kind, frame) for frame in range(FRAMES)])
    dataset, every = open_dataset(folder), np.arange(FRAMES)
    pictures = dataset.pictures("front", every, decode_picture)
    np.testing.assert_array_equal(pictures, dataset.pictures("front", every, decode_for_training))
    assert [round(float(image.mean())) for image in pictures] == EXPECTED


@pytest.mark.parametrize("key", ["is_depth_map", "video.is_depth_map"])
def test_depth_in_three_channels_is_left_out(tmp_path: Path, key: str) -> None:
    folder = write_dataset(tmp_path / "demo", cameras=("front", "depth"))
    edit_info(folder, lambda info: info["features"]["observation.images.depth"].update(info={key: True}))
    info = open_dataset(folder).info
    assert list(info.cameras) == ["front"]
    assert info.notes == ("left out: observation.images.depth is a depth map, expected colours",)


def test_values_that_no_arm_reports_are_refused_before_training(folder: Path) -> None:
    ticks = [[2048.0 + 10 * frame] * 6 for frame in range(FRAMES)]
    replace_column(folder, "observation.state", ticks, pa.list_(pa.float32()))
    with pytest.raises(InputError, match=r"shoulder_pan: values of 2048\.\.2108 are not degrees.*raw encoder readings"):
        check_exportable(open_dataset(folder), ARM)
    gripper = [[0.0] * 5 + [2048.0]] * FRAMES
    replace_column(folder, "observation.state", gripper, pa.list_(pa.float32()))
    with pytest.raises(InputError, match=r"gripper: values of 2048\.\.2048 are not percent"):
        check_exportable(open_dataset(folder), ARM)
    replace_column(folder, "observation.state", [[1e300] * 6] * FRAMES, pa.list_(pa.float64()))
    with pytest.raises(InputError, match=r"observation\.state of shoulder_pan at frame 0 is inf"):
        open_dataset(folder)


def test_episode_numbers_must_be_integers(folder: Path) -> None:
    replace_column(folder, "episode_index", [0.5] * 4 + [1.5] * 3)
    with pytest.raises(InputError, match="'episode_index' has fractions"):
        open_dataset(folder)


def test_time_stamps_that_run_at_another_rate_than_declared_are_refused(folder: Path) -> None:
    edit_info(folder, lambda info: info.update(fps=11))
    with pytest.raises(InputError, match=r"declares 11 frames per second, its time stamps say 10\.00"):
        open_dataset(folder)
    edit_info(folder, lambda info: info.update(fps=10))
    replace_column(folder, "timestamp", [0.0, 0.1, 0.1, 0.2, 0.0, 0.1, 0.2], pa.float32())
    with pytest.raises(InputError, match="time stamps do not increase in episode 0, at frame 2"):
        open_dataset(folder)


def test_joints_of_the_old_calibration_are_refused_before_training(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "demo", tuple(f"main_{name}" for name in ARM.joint_names))
    with pytest.raises(InputError, match="before June 2025, with the old calibration, whose zero") as refused:
        check_exportable(open_dataset(folder), ARM)
    assert "record again" in refused.value.hint
    inputs = PolicyInputs(ARM.joint_names, {"front": (24, 32)}, 10.0, 1, 1, 16)
    with pytest.raises(InputError, match="before June 2025, with the old calibration"):
        check_shows(open_dataset(folder), inputs)


def test_a_dataset_that_export_would_refuse_is_refused_before_training(tmp_path: Path, folder: Path) -> None:
    assert check_exportable(open_dataset(folder), ARM) == []
    other = write_dataset(tmp_path / "other", ("arm1_j1", "arm1_j2"))
    with pytest.raises(InputError, match="moves arm1_j1, arm1_j2; the arm 'so101' has shoulder_pan"):
        check_exportable(open_dataset(other), ARM)
    replace_column(folder, "observation.state", [[0.0] * 5 + [50.0], [-130.0] * 5 + [50.0]] * 3 + [[0.0] * 6])
    check_exportable(open_dataset(folder), ARM)
    with pytest.raises(InputError, match=r"are not in LeRobot's -100\.\.100"):
        check_exportable(open_dataset(folder), load_arm_profile("so101_percent"))
    replace_column(folder, "episode_index", [0] * FRAMES)
    replace_column(folder, "timestamp", [0.1 * frame for frame in range(FRAMES)])
    with pytest.raises(InputError, match="the dataset has one episode"):
        check_exportable(open_dataset(folder), ARM)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lerobot_v3_so101_real", "2 of 2 videos are missing"),
        ("lerobot_v21_so100_bimanual_real", "format 'v2.1', expected 'v3.0'"),
    ],
)
def test_real_datasets_are_refused_with_the_reason(name: str, message: str) -> None:
    folder = SHARED / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    with pytest.raises(InputError, match=message):
        open_dataset(folder)
