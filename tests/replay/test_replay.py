"""Replaying a recorded run gives the same bits; one changed value or lost record is found and reported."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sefa_edge.cli import main
from sefa_edge.edge.engines.cache import processor_name
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.ipc.record_json import from_json
from sefa_edge.edge.ipc.tick_trace import TickTrace
from sefa_edge.edge.recording.mcap_file import StoredMessage, read_mcap
from sefa_edge.edge.recording.recorded_run import open_run
from sefa_edge.edge.recording.topics import CHUNK, INFERENCE, TICK, picture_topic
from sefa_edge.edge.tools.replay.command import processor_note
from sefa_edge.edge.tools.replay.commands import replay_commands
from sefa_edge.edge.tools.replay.comparison import Comparison
from sefa_edge.edge.tools.replay.policy import replay_policy

Change = Callable[[StoredMessage], Iterator[bytes]]
Rewrite = Callable[..., Path]


def tampering(topic: str, number: int, change: Callable[[dict], None]) -> Change:
    """Changes the message of a topic that has this number."""
    seen = 0

    def copy_or_change(stored: StoredMessage) -> Iterator[bytes]:
        nonlocal seen
        seen += stored.topic == topic
        content = json.loads(stored.content)
        if stored.topic == topic and seen == number:
            change(content)
        yield json.dumps(content).encode()

    return copy_or_change


def commands(path: Path) -> Comparison:
    return replay_commands(open_run(path))


def inferences(path: Path, engine: Path) -> Comparison:
    return replay_policy(open_run(path), open_engine(engine))


def test_everything_agrees_bit_for_bit(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded)]) == 0
    printed = capsys.readouterr().out
    ticks = sum(isinstance(stored, StoredMessage) and stored.topic == TICK for stored in read_mcap(recorded))
    chunks = sum(isinstance(stored, StoredMessage) and stored.topic == INFERENCE for stored in read_mcap(recorded))
    assert f"ticks    {ticks} of {ticks} agree" in printed
    assert f"chunks   {chunks} of {chunks} agree" in printed
    assert chunks >= 4


def test_a_run_with_an_unreliable_arm_agrees_too(recorded_unreliable: Path) -> None:
    path = recorded_unreliable
    comparison = commands(path)
    assert comparison.same, comparison.first_difference
    answers = {
        call["answer"]
        for stored in read_mcap(path)
        if isinstance(stored, StoredMessage) and stored.topic == TICK
        for call in json.loads(stored.content)["calls"]
    }
    assert answers == {"DONE", "TIMEOUT", "DISCONNECTED"}


def up(value: float) -> float:
    """The next double."""
    return math.nextafter(value, math.inf)


def change_reading(tick: dict) -> None:
    tick["readings"][-1]["joint_deg"][1] += 10.0


def change_goal(tick: dict) -> None:
    tick["goal"]["joint_deg"][3] = up(tick["goal"]["joint_deg"][3])


def change_mode(tick: dict) -> None:
    tick["report"]["mode"] = "HOLD"


def change_event(tick: dict) -> None:
    tick["events"] = ["fault POLICY_LOST"]


def change_clipping(tick: dict) -> None:
    tick["report"]["clipped_bits"] ^= 4


def change_answer(tick: dict) -> None:
    tick["calls"][-1]["answer"] = "DISCONNECTED"


def lose_call(tick: dict) -> None:
    tick["calls"].pop()


def change_time(tick: dict) -> None:
    tick["report"]["start_ns"] += 1


@pytest.mark.parametrize(
    "change",
    [
        change_reading, change_goal, change_mode, change_event, change_clipping, change_answer, lose_call, change_time,
    ],
)  # fmt: skip
def test_one_changed_value_of_a_tick_is_found(
    recorded: Path, tmp_path: Path, rewrite: Rewrite, change: Callable[[dict], None]
) -> None:
    path = rewrite(recorded, tmp_path / "tampered.mcap", tampering(TICK, 100, change))
    comparison = commands(path)
    assert not comparison.same
    assert "tick 100" in comparison.first_difference or "tick 101" in comparison.first_difference


def change_step(message: dict) -> None:
    message["joint_deg"][4]["row"][0] += 1e-3


def change_output(message: dict) -> None:
    message["output"][4]["row"][0] += 1e-3


def change_observed(message: dict) -> None:
    message["joint_deg"][0]["row"][2] += 1e-3


@pytest.mark.parametrize(
    ("topic", "change"), [(INFERENCE, change_output), (INFERENCE, change_observed), (CHUNK, change_step)]
)
def test_one_changed_value_of_a_chunk_is_found(
    recorded: Path, reach_engine: Path, tmp_path: Path, rewrite: Rewrite, topic: str, change: Callable[[dict], None]
) -> None:
    path = rewrite(recorded, tmp_path / "tampered.mcap", tampering(topic, 2, change))
    comparison = inferences(path, reach_engine)
    assert comparison.agreed == comparison.compared - 1
    assert comparison.first_difference.startswith("chunk 2")


def test_lost_ticks_are_reported_and_later_ticks_are_not_compared(
    recorded: Path, tmp_path: Path, rewrite: Rewrite
) -> None:
    ticks = [
        from_json(stored.content, TickTrace, TICK)
        for stored in read_mcap(recorded)
        if isinstance(stored, StoredMessage) and stored.topic == TICK
    ]
    arrivals = [tick.report.tick for tick in ticks if tick.chunk_arrived != -1]
    lost = range(arrivals[0] + 10, arrivals[0] + 15)

    def lose(stored: StoredMessage) -> Iterator[bytes]:
        if stored.topic != TICK or json.loads(stored.content)["report"]["tick"] not in lost:
            yield stored.content

    comparison = commands(rewrite(recorded, tmp_path / "gap.mcap", lose))
    assert comparison.same, comparison.first_difference
    last = ticks[-1].report.tick
    assert comparison.not_comparable == [f"ticks {lost[0]} to {last}: after a loss or a difference"]
    assert comparison.compared == sum(tick.report.tick < lost[0] for tick in ticks)


def test_a_lost_chunk_is_a_gap(recorded: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    seen = 0

    def lose_second(stored: StoredMessage) -> Iterator[bytes]:
        nonlocal seen
        seen += stored.topic == CHUNK
        if stored.topic != CHUNK or seen != 2:
            yield stored.content

    comparison = commands(rewrite(recorded, tmp_path / "gap.mcap", lose_second))
    assert comparison.same, comparison.first_difference
    assert len(comparison.not_comparable) == 1


def test_lost_frames_are_not_a_difference(recorded: Path, reach_engine: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    path = rewrite(
        recorded,
        tmp_path / "blind.mcap",
        lambda stored: iter(() if stored.topic == picture_topic("front") else (stored.content,)),
    )
    comparison = inferences(path, reach_engine)
    assert comparison.compared == 0
    assert not comparison.same  # nothing was proven
    assert all("one of its pictures is lost" in gap for gap in comparison.not_comparable)


def test_a_difference_ends_with_exit_code_1(
    recorded: Path, tmp_path: Path, rewrite: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewrite(recorded, tmp_path / "tampered.mcap", tampering(TICK, 50, change_goal))
    assert main(["replay", str(path), "--part", "commands"]) == 1
    assert "first difference: tick 50: goal.joint_deg" in capsys.readouterr().out


def test_a_missing_engine_is_reported(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recorded), "--engine", str(tmp_path / "none.onnx")]) == 2
    assert "pass --engine E, or --part commands" in capsys.readouterr().err


def test_a_damaged_message_is_reported_in_one_line(
    recorded: Path, tmp_path: Path, rewrite: Rewrite, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(tick: dict) -> None:
        tick["readings"] = [{"sequence": "many"}]

    path = rewrite(recorded, tmp_path / "tampered.mcap", tampering(TICK, 50, damage))
    assert main(["replay", str(path), "--part", "commands"]) == 2
    assert capsys.readouterr().err.startswith("error: a message of /control/tick is damaged")


def test_another_kind_of_processor_is_reported() -> None:
    here = processor_name()
    assert processor_note({"processor": here}, here) == ""
    assert processor_note({}, here) == ""
    assert "recorded on another kind of processor (Cortex" in processor_note({"processor": "Cortex 123"}, here)
