"""Recordings as a dataset: the image, reading and goal of each frame, and which episodes are skipped."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.cli import main
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.edge.recording.mcap_file import StoredAttachment, StoredMessage, read_mcap
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.recording.topics import EVENT, TICK, picture_topic
from sefa_edge.profiles.recording.dataset import open_dataset

Rewrite = Callable[..., Path]
STEP_NS = 100_000_000


def parsed(path: Path, topic: str) -> list[dict]:
    return [
        json.loads(part.content) for part in read_mcap(path) if isinstance(part, StoredMessage) and part.topic == topic
    ]


def due_ns(tick: dict) -> int:
    return tick["report"]["start_ns"] - tick["report"]["lateness_ns"]


def test_frames_contain_the_newest_data_of_their_time(recorded: Path, tmp_path: Path) -> None:
    arguments = ["dataset", "from-runs", str(recorded), "-o", str(tmp_path / "data"), "--task-name", "reach out"]
    assert main(arguments) == 0
    data = open_dataset(tmp_path / "data")
    ticks, pictures = parsed(recorded, TICK), parsed(recorded, picture_topic("front"))
    for tick in ticks:
        tick["due_ns"] = due_ns(tick)
    begins = [event["stamp_ns"] for event in parsed(recorded, EVENT) if event["stage"] == "EPISODE_BEGIN"]
    assert data.info.rate_hz == 10
    assert set(data.episode.tolist()) == {0, 1}
    shown = data.pictures("front", np.arange(len(data)), decode_picture)
    for frame in range(len(data)):
        begin = begins[data.episode[frame]]
        running = [tick for tick in ticks if tick["due_ns"] >= begin and tick["report"]["mode"] == "RUNNING"]
        start = next(tick["due_ns"] for tick in running if tick["report"]["chunk_id"] != -1)
        moment = start + STEP_NS * (frame - int(data.episode_start[frame]))
        readings = [r for tick in ticks for r in tick["readings"] if r["stamp_ns"] <= moment]
        np.testing.assert_array_equal(data.joint_deg[frame], np.float32(readings[-1]["joint_deg"]))
        goals = [tick["goal"]["joint_deg"] for tick in running if tick["due_ns"] <= moment + STEP_NS]
        np.testing.assert_array_equal(data.action_deg[frame], np.float32(goals[-1]))
        seen = [picture for picture in pictures if picture["capture_ns"] <= moment][-1]
        np.testing.assert_array_equal(shown[frame], decode_picture(base64.b64decode(seen["data"])))
    info = json.loads((tmp_path / "data/meta/info.json").read_text())
    assert info["robot_type"] == "so101_follower"


def test_two_runs_make_one_dataset(recorded: Path, tmp_path: Path) -> None:
    assert main(["dataset", "from-runs", str(recorded), str(recorded.parent), "-o", str(tmp_path / "data")]) == 0
    assert len(set(open_dataset(tmp_path / "data").episode.tolist())) == 4


def test_an_episode_with_a_gap_is_skipped(
    recorded: Path, tmp_path: Path, rewrite: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    first_end = next(event["stamp_ns"] for event in parsed(recorded, EVENT) if event["stage"] == "EPISODE_END")

    def blind(stored: StoredMessage) -> Iterator[bytes]:
        is_picture = stored.topic == picture_topic("front")
        if not is_picture or not first_end - 9 * STEP_NS < json.loads(stored.content)["capture_ns"] < first_end:
            yield stored.content

    path = rewrite(recorded, tmp_path / "blind.mcap", blind)
    assert main(["dataset", "from-runs", str(path), "-o", str(tmp_path / "data")]) == 0
    assert "episode 1 is skipped: no picture of front" in capsys.readouterr().out
    assert len(set(open_dataset(tmp_path / "data").episode.tolist())) == 1


def test_a_truncated_recording_yields_its_complete_episodes(recorded: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    ends = [event["stamp_ns"] for event in parsed(recorded, EVENT) if event["stage"] == "EPISODE_END"]

    def cut(stored: StoredMessage) -> Iterator[bytes]:
        content = json.loads(stored.content)
        stamp_ns = content.get("stamp_ns") or content.get("capture_ns") or 0
        if "report" in content:
            stamp_ns = due_ns(content)
        if stamp_ns < ends[1] - 2 * STEP_NS:
            yield stored.content

    path = rewrite(recorded, tmp_path / ("run.mcap" + PARTIAL), cut)
    assert main(["dataset", "from-runs", str(path), "-o", str(tmp_path / "data")]) == 0
    assert len(set(open_dataset(tmp_path / "data").episode.tolist())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "failure"), "these runs contain no complete episode"),
        (("--task-name", "reach", "--only", "timeout"), "these runs contain no complete episode"),
    ],
)
def test_without_episodes_nothing_is_left_behind(
    recorded: Path, tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "from-runs", str(recorded), "-o", str(tmp_path / "data"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_with_different_settings_are_refused(
    recorded: Path, tmp_path: Path, rewrite: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_task(part: StoredAttachment) -> bytes:
        return part.content.replace(b'"task":"lift"', b'"task":"stack"')

    other = rewrite(recorded, tmp_path / "other.mcap", lambda stored: iter((stored.content,)), other_task)
    arguments = ["dataset", "from-runs", str(recorded), str(other), "-o", str(tmp_path / "data")]
    assert main(arguments) == 2
    assert "task is stack" in capsys.readouterr().err
    assert main([*arguments, "--task-name", "both"]) == 0
