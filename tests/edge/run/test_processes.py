"""The process table: what its rows are wired to, and a process that is added to a run by one row."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sefa_edge.cli import CommandLine
from sefa_edge.edge.ipc.transport import ChannelClosed
from sefa_edge.edge.run import command
from sefa_edge.edge.run.process_row import SUPERVISOR, Death, Ends, Launch, ProcessRow
from sefa_edge.edge.run.processes import CONTROL, POLICY, RECORDER, VIDEO, WORLD, camera_row_name, process_rows
from sefa_edge.edge.run.run_plan import RunPlan, make_plan
from sefa_edge.edge.run.status import StatusLine
from sefa_edge.edge.run.supervisor import Supervisor
from sefa_edge.edge.run.wiring import Wiring
from tests.rigs.spectator_process import SpectatorConfig

FRONT = camera_row_name("front")
ROOT = Path(__file__).parents[3]


def plan(engine: Path, *arguments: str) -> RunPlan:
    parser = CommandLine()
    command.add_arguments(parser)
    return make_plan(
        parser.parse_args(["--engine", str(engine), "--episodes", "1", "--episode-seconds", "2", *arguments])
    )


def spectator(path: Path, failure_path: Path) -> ProcessRow:
    """The one row by which the process is added."""

    def launch(ends: Ends) -> Launch:
        (camera,) = ends.inputs
        fd = ends.channel_fds[SUPERVISOR]
        config = SpectatorConfig(path=str(path), supervisor_fd=fd, camera=camera, failure_path=str(failure_path))
        return Launch(config.model_dump_json())

    return ProcessRow("spectator", "tests.rigs.spectator_process", launch, rings=(FRONT,))


def test_the_rows_are_those_that_the_plan_asks_for(tmp_path: Path, reach_engine: Path) -> None:
    (tmp_path / "recordings").mkdir()
    everything = plan(reach_engine, "--record", str(tmp_path / "recordings"), "--video", str(tmp_path / "run.png"))
    assert {row.name for row in process_rows(everything)} == {WORLD, FRONT, POLICY, RECORDER, CONTROL, VIDEO}
    real = plan(reach_engine, "--arm", "so101", "--port", "/dev/ttyACM0", "--camera", "/dev/video0", "--video", "none")
    assert {row.name for row in process_rows(real)} == {FRONT, POLICY, CONTROL}


def test_frames_reach_the_policy_first_and_a_real_camera_the_video(tmp_path: Path, reach_engine: Path) -> None:
    arguments = ("--arm", "so101", "--port", "/dev/ttyACM0", "--camera", "/dev/video0")
    rows = process_rows(plan(reach_engine, *arguments, "--video", str(tmp_path / "run.png")))
    wiring = Wiring()
    wiring.connect(rows)
    ends = {row.name: wiring.ends_of(row, None) for row in rows}
    assert list(ends[FRONT].channel_fds) == [POLICY, VIDEO, SUPERVISOR]
    assert [source.name for source in ends[VIDEO].inputs] == ["front"]
    assert ends[VIDEO].inputs[0].ring_fd == ends[FRONT].ring_fd
    wiring.close_channels(frozenset())
    wiring.close_rings()


def test_a_replaced_process_gets_new_channels_and_keeps_its_tap(tmp_path: Path, reach_engine: Path) -> None:
    rows = process_rows(plan(reach_engine, "--record", str(tmp_path), "--video", "none"))
    control = next(row for row in rows if row.name == CONTROL)
    wiring = Wiring()
    wiring.connect(rows)
    before, first = wiring.supervisor_end(CONTROL), wiring.ends_of(control, None)
    wiring.release(control)
    assert before is not None
    with pytest.raises(ChannelClosed):  # its other end is the process's alone
        before.receive()
    wiring.reconnect(CONTROL)
    again, after = wiring.ends_of(control, None), wiring.supervisor_end(CONTROL)
    assert set(again.channel_fds) == {SUPERVISOR, POLICY, RECORDER}
    assert again.channel_fds[RECORDER] == first.channel_fds[RECORDER]
    assert after is not None
    assert after.receive() is None
    wiring.close_channels(frozenset())
    wiring.close_rings()


def test_a_link_to_a_process_that_the_run_does_not_have_is_refused(reach_engine: Path) -> None:
    lonely = replace(spectator(Path("unused"), Path("unused")), rings=(), links=("page",))
    with pytest.raises(ValueError, match="linked to 'page'"):
        Wiring().connect((*process_rows(plan(reach_engine, "--video", "none")), lonely))


class Screen(io.StringIO):
    """Makes a file exist once the arm moves."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def write(self, text: str) -> int:
        if "  running" in text:
            self._path.touch()
        return super().write(text)


def run(made: RunPlan, row: ProcessRow, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code of a run with one more process, and all that a person sees of it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ending = Supervisor(made, StatusLine(screen), rows=(*process_rows(made), row)).run()
    return ending.exit_code, f"{screen.getvalue()}{ending.message}"


@pytest.mark.once
@pytest.mark.sim
def test_a_process_is_added_by_one_row(tmp_path: Path, reach_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = spectator(tmp_path / "frames", tmp_path / "never")
    exit_code, shown = run(plan(reach_engine, "--video", "none"), row, Screen(tmp_path / "moving"), monkeypatch)
    assert exit_code == 0, shown
    frames, pid = map(int, (tmp_path / "frames").read_text().split())
    assert frames > 1
    with pytest.raises(ProcessLookupError):  # it has ended with the others
        os.kill(pid, 0)


@pytest.mark.once
@pytest.mark.sim
@pytest.mark.parametrize(("death", "exit_code"), [(Death.FAULT, 3), (Death.NOTE, 0)])
def test_the_end_of_an_added_process_means_what_its_row_says(
    tmp_path: Path, reach_engine: Path, monkeypatch: pytest.MonkeyPatch, death: Death, exit_code: int
) -> None:
    row = replace(spectator(tmp_path / "frames", tmp_path / "moving"), death=death)
    found, shown = run(plan(reach_engine, "--video", "none"), row, Screen(tmp_path / "moving"), monkeypatch)
    assert found == exit_code, shown
    assert ("the spectator was asked to fail: arm parked and released" in shown) == (death is Death.FAULT)
    assert shown.count("\nthe spectator was asked to fail\n") == (death is Death.NOTE)
