"""Datasets with videos, as LeRobot writes them by default: exactly the requested frame, or an error in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sefa_edge.edge.pictures import decode_picture
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.recording.dataset import open_dataset

FRAMES = 15
FIRST, SECOND = (f"videos/observation.images.front/chunk-000/file-00{index}.mp4" for index in (0, 1))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, make_video_dataset: Callable[..., Path]) -> Path:
    return make_video_dataset(tmp_path_factory.mktemp("video") / "demo")


@pytest.fixture
def folder(tmp_path: Path, recorded: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "demo"))


def frame_numbers(pictures: np.ndarray) -> list[int]:
    """The frame number of each image, from its grey level, 20 + 8 per frame."""
    return np.rint((pictures[:, :, 40:].mean(axis=(1, 2, 3)) - 20) / 8).astype(int).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "av1", "mpeg4"])
def test_exactly_the_requested_frames_in_any_order(
    tmp_path: Path, make_video_dataset: Callable[..., Path], codec: str
) -> None:
    dataset = open_dataset(make_video_dataset(tmp_path / "demo", codec))
    requested = [14, 3, 0, 9, 3, 8, 10]
    pictures = dataset.pictures("front", np.array(requested), decode_picture)
    assert frame_numbers(pictures) == requested
    np.testing.assert_allclose(pictures[:, 4:44, 20:28].mean(axis=(0, 1, 2)), (200, 30, 30), atol=12)  # RGB, not BGR
    streamed = np.stack(list(dataset.stream("front", np.arange(FRAMES), decode_picture)))
    assert frame_numbers(streamed) == list(range(FRAMES))


def test_far_jumps_return_the_requested_frames(tmp_path: Path, make_video_dataset: Callable[..., Path]) -> None:
    dataset = open_dataset(make_video_dataset(tmp_path / "demo", lengths=(27, 1)))
    assert frame_numbers(dataset.pictures("front", np.array([0, 13, 26]), decode_picture)) == [0, 13, 26]


def test_a_fingerprint_covers_the_videos(folder: Path) -> None:
    before = open_dataset(folder).fingerprint()
    shutil.copy(folder / SECOND, folder / FIRST)
    assert open_dataset(folder).fingerprint() != before
    (folder / FIRST).unlink()
    with pytest.raises(InputError, match=r"file-000\.mp4 does not exist"):
        open_dataset(folder).fingerprint()


def edit_episodes(folder: Path, **changes: list) -> None:
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for name, values in changes.items():
        key = f"videos/observation.images.front/{name}"
        table = table.set_column(table.schema.get_field_index(key), key, [values])
    pq.write_table(table, path)


def shrink_feature(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["observation.images.front"]["shape"] = [24, 32, 3]
    (folder / "meta/info.json").write_text(json.dumps(info))


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def cut(path: Path, fraction: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


def blank_middle(path: Path) -> None:
    """Put zeros into the encoded frames; the file's directory is not changed."""
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 700
    content[start : start + 400] = bytes(400)
    path.write_bytes(bytes(content))


def one_line(error: InputError) -> None:
    assert "\n" not in str(error)
    assert "\n" not in error.hint


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda f: (f / FIRST).unlink(), r"file-000\.mp4 does not exist"),
    "empty": (lambda f: overwrite(f / FIRST, b""), r"file-000\.mp4 cannot be read"),
    "truncated": (lambda f: cut(f / FIRST, 0.5), r"file-000\.mp4 cannot be read"),
    "zeros inside": (lambda f: blank_middle(f / FIRST), r"file-000\.mp4"),
    "a playlist": (lambda f: overwrite(f / FIRST, PLAYLIST), r"file-000\.mp4 cannot be read"),
    "another size": (shrink_feature, "is 64x48, meta/info.json says 32x24"),
    "episode too late": (lambda f: edit_episodes(f, from_timestamp=[0.0, 0.5, 90.0]), "has no frame at 90.000 s"),
    "between frames": (lambda f: edit_episodes(f, from_timestamp=[0.05, 0.55, 0.0]), "has no frame at 0.050 s"),
    "the wrong file": (lambda f: edit_episodes(f, file_index=[1, 1, 1]), "has no frame at 0.600 s"),
}
TABLE_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no episodes": (lambda f: shutil.rmtree(f / "meta/episodes"), "camera 'front' is missing in episode 0 and 2 more"),
    "negative file": (lambda f: edit_episodes(f, file_index=[0, -1, 0]), "episode 1 is impossible"),
    "absurd file": (lambda f: edit_episodes(f, chunk_index=[0, 0, 10**15]), "episode 2 is impossible"),
    "time is not a number": (lambda f: edit_episodes(f, from_timestamp=[0.0, float("nan"), 0.0]), "is impossible"),
    "text": (lambda f: edit_episodes(f, file_index=["..", "..", ".."]), "expected numbers"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_video_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(folder).pictures("front", np.arange(FRAMES), decode_picture)
    one_line(caught.value)


@pytest.mark.parametrize("name", TABLE_DAMAGES)
def test_a_damaged_table_of_episodes_is_refused(folder: Path, name: str) -> None:
    damage, message = TABLE_DAMAGES[name]
    damage(folder)
    with pytest.raises(InputError, match=message):
        open_dataset(folder)


@pytest.mark.slow
def test_flipped_bytes_never_end_in_a_traceback(folder: Path) -> None:
    content, rng = (folder / FIRST).read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 8)] = rng.integers(0, 256, 8)
        (folder / FIRST).write_bytes(damaged.tobytes())
        try:
            open_dataset(folder).pictures("front", np.arange(9), decode_picture)
        except InputError as error:
            refused += 1
            one_line(error)
    assert refused > 10


@pytest.mark.slow
@pytest.mark.parametrize(("library", "extra"), [("pyarrow", "dataset"), ("av", "video")])
def test_a_missing_library_is_named_with_its_extra(folder: Path, library: str, extra: str) -> None:
    program = f"""
import sys
from pathlib import Path
sys.modules[{library!r}] = None  # any import of it fails
import numpy as np
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.errors import MissingError
try:
    open_dataset(Path({str(folder)!r})).pictures("front", np.array([0]), lambda content: None)
except MissingError as error:
    print(error, error.hint, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert f"'{library}'|pip install 'sefa-edge[{extra}]'" in done.stdout
