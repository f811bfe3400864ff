"""`sefa-edge bench-loop`: samples, criteria, the loop in C, the picture, and one real measurement."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.pictures import read_picture
from sefa_edge.edge.tools.bench_loop.picture import draw_lateness
from sefa_edge.edge.tools.bench_loop.report import Findings, judge, require_load, table, verdict
from sefa_edge.edge.tools.bench_loop.samples import (
    WARM_UP_NS,
    Beside,
    Footprint,
    LoopMeasurement,
    footprint_of,
    record_ticks,
)
from sefa_edge.edge.tools.bench_loop.servos import simulated_servos
from sefa_edge.edge.tools.bench_loop.timer_control import TimerRequest, TimerResult, parse_timer_loop, timer_control
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.page.histogram import HIGH, WIDE
from sefa_edge.profiles.page.style import light_rgb
from sefa_edge.profiles.units import ms_to_ns, us_to_ns

PERIOD_NS = ms_to_ns(10)
COMMAND = [sys.executable, "-m", "sefa_edge", "bench-loop"]
NO_JOINTS = np.zeros(6, np.float32)


def tick(number: int, lateness_ns: int = 1000, skipped: int = 0, mode: Mode = Mode.RUNNING) -> TickReport:
    """Tick `number` of a grid that begins at 0."""
    stages = (100, 20, 10, 10, 5)
    start_ns = number * PERIOD_NS + lateness_ns
    return TickReport(
        number, start_ns, lateness_ns, stages, skipped, 0, -1, -1, -1, mode, False, Fault.NONE, 0, 0,
        NO_JOINTS, NO_JOINTS,
    )  # fmt: skip


class Counted:
    """A companion that counts its calls."""

    begun = ended = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        self.ended += 1


def test_samples_leave_the_warm_up_and_other_modes_out() -> None:
    companion = Counted()
    samples = record_ticks(Mode.RUNNING, 1.0, companion)
    for number in range(1000):
        samples.on_tick(tick(number, mode=Mode.ARMED if number < 100 else Mode.RUNNING))
        samples.on_tick(tick(number, mode=Mode.HOLD))
    assert samples.satisfied
    assert samples.ticks[0].tick == 100 + WARM_UP_NS // PERIOD_NS
    assert len(samples.ticks) == 101
    assert (companion.begun, companion.ended) == (1, 1)


def test_lateness_of_the_first_and_last_tick_is_not_a_rate_error() -> None:
    ticks = [tick(number, lateness_ns=9_000_000 if number == 0 else 10) for number in range(101)]
    loop = LoopMeasurement.of(ticks, 100.0)
    assert loop.rate_hz == 100.0
    assert (loop.skipped, loop.lost_reports) == (0, 0)
    assert loop.period_error_ns[0] == 9_000_000 - 10
    assert (loop.period_error_ns[1:] == 0).all()
    assert (loop.work_ns == 145).all()
    assert loop.stage_ns["choose"].tolist() == [20] * 101


def test_a_skipped_tick_is_missing_from_the_rate() -> None:
    ticks = [tick(number, skipped=int(number >= 50)) for number in range(101) if number != 49]
    loop = LoopMeasurement.of(ticks, 100.0)
    assert loop.rate_hz == pytest.approx(99.0)
    assert (loop.skipped, loop.lost_reports) == (1, 0)


def test_a_lost_report_is_not_a_skipped_tick() -> None:
    ticks = [tick(number) for number in range(101) if number not in (20, 21)]
    loop = LoopMeasurement.of(ticks, 100.0)
    assert loop.rate_hz == 100.0
    assert (loop.skipped, loop.lost_reports) == (0, 2)


def test_one_tick_is_no_measurement() -> None:
    with pytest.raises(InputError):
        LoopMeasurement.of([tick(1)], 100.0)


def findings(lateness_ns: list[int], control: TimerResult | None = None, skipped: int = 0) -> Findings:
    gaps = [skipped if number else 0 for number in range(len(lateness_ns))]
    ticks = [tick(number + gap, late, gap) for number, (late, gap) in enumerate(zip(lateness_ns, gaps, strict=True))]
    loop = LoopMeasurement.of(ticks, 100.0)
    return Findings(loop, control, Footprint(0, 0, 0), Beside(), (), 100.0)


def control(lateness_us: int, skipped: int = 0) -> TimerResult:
    return TimerResult("timer loop in C", True, np.full(10_000, us_to_ns(lateness_us), np.int64), skipped)


def missed(found: Findings) -> list[str]:
    return [criterion.name for criterion in judge(found) if not criterion.met]


def test_a_good_loop_passes_with_and_without_a_control() -> None:
    assert missed(findings([us_to_ns(100)] * 2000)) == []
    assert missed(findings([us_to_ns(100)] * 2000, control(30))) == []


def test_every_criterion_can_be_missed() -> None:
    assert missed(findings([us_to_ns(151)] * 2000)) == ["lateness p50"]
    assert missed(findings([1000] * 1900 + [ms_to_ns(1) + 1] * 100)) == ["lateness p99", "lateness p99.9"]
    assert missed(findings([1000] * 1990 + [ms_to_ns(1) + 1] * 10)) == ["lateness p99.9"]
    assert missed(findings([1000] * 2000, skipped=1)) == ["rate error"]


def test_lateness_of_the_machine_itself_is_allowed() -> None:
    late = [1000] * 1990 + [ms_to_ns(3)] * 10
    assert missed(findings(late, control(1500))) == []
    assert missed(findings(late, control(1499))) == ["lateness p99.9"]
    assert missed(findings([1000] * 2000, control(10, skipped=10), skipped=1)) == []


@pytest.mark.parametrize(
    ("beside", "printed"),
    [
        (Beside(), "no picture and no inference during"),
        (Beside(pictures=9), "no inference during"),
        (Beside(chunks=9, inference_ns=[1] * 9), "no picture during"),
    ],
)
def test_a_loop_without_load_proves_nothing(beside: Beside, printed: str) -> None:
    with pytest.raises(SefaError, match=printed) as refused:
        require_load(beside)
    assert refused.value.exit_code == 1
    require_load(Beside(pictures=1, chunks=1, inference_ns=[1]))


def test_the_table_contains_the_measurements() -> None:
    found = findings([us_to_ns(100)] * 2000, control(50))
    printed = "\n".join([*table(found), *verdict(judge(found))])
    assert "2 x" in printed
    assert "0 page faults" in printed
    assert printed.count("ok    ") == 4
    assert "no comparison loop" in "\n".join(table(findings([1000] * 100)))


@pytest.mark.slow
def test_the_loop_in_c_measures_itself() -> None:
    with timer_control(TimerRequest(ms_to_ns(2), None, 0)) as program:
        if program is None or program.subject == "cyclictest":
            pytest.skip("no C compiler here")
        program.start()
        time.sleep(0.3)
        result = program.finish()
    assert result.fifo is False
    assert result.skipped is not None
    assert len(result.lateness_ns) + result.skipped > 10
    assert (result.lateness_ns >= 0).all()


GOOD = "fifo 1\nlocked 1\nticks 3\nskipped 2\nmax_ns 81500\n10 2\n81 1\n"


def test_the_output_of_the_loop_in_c_is_parsed() -> None:
    result = parse_timer_loop(GOOD)
    assert (result.fifo, result.skipped) == (True, 2)
    assert result.lateness_ns.tolist() == [10_000, 10_000, 81_500]


@pytest.mark.parametrize(
    "output",
    ["", "fifo 1\n", GOOD.replace("ticks 3", "ticks 4"), GOOD + "x y\n", GOOD.replace("10 2", "10 -2"), GOOD[:40]],
)
def test_an_invalid_result_is_refused(output: str) -> None:
    with pytest.raises(SefaError, match="gave no result"):
        parse_timer_loop(output)


def test_the_counters_of_a_process() -> None:
    before = footprint_of(os.getpid())
    kept = np.ones(30_000_000, np.uint8)
    after = footprint_of(os.getpid())
    assert before is not None
    assert after is not None
    grown = after.since(before)
    assert grown.page_faults > 0
    assert grown.resident_kb > kept.nbytes // 2048
    assert footprint_of(2**22 + 1) is None


def test_the_picture_shows_a_single_late_tick() -> None:
    series = {"ours": np.array([us_to_ns(1)] * 999 + [ms_to_ns(20)]), "control": np.full(1000, us_to_ns(50))}
    picture = draw_lateness(series, "title")
    assert picture.shape == (HIGH, WIDE, 3)
    assert has_colour(picture[60:, 700:], light_rgb("median"))
    assert not has_colour(picture[60:, 700:], light_rgb("late"))
    assert not has_colour(draw_lateness({"ours": series["ours"][:999]}, "")[60:, 700:], light_rgb("median"))


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Smoothed lines are nearly of their colour."""
    return bool((np.abs(picture.astype(int) - colour).sum(axis=2) < 60).any())


@contextlib.contextmanager
def servos() -> Iterator[Path]:
    with simulated_servos("so101_sim", frozenset()) as port:
        yield port


@pytest.mark.once
@pytest.mark.slow
def test_a_real_arm_is_measured_and_never_energised(tmp_path: Path) -> None:
    report, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    with servos() as port:
        words = ["--arm", "so101_sim", "--port", str(port), "--seconds", "1", "--json", str(report)]
        done = subprocess.run(
            [*COMMAND, *words, "--picture", str(picture), "--realtime-priority", "0"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        arm = open_feetech_arm(load_arm_profile("so101_sim"), str(port), None)
        before = arm.read_state().joint_deg
        arm.close()
    content = json.loads(report.read_text())
    assert content["passed"] is (done.returncode == 0)
    assert len(content["criteria"]) == 4
    # A goal would have moved a joint from the middle of its range, where these servos start.
    assert np.abs(before[:5]).max() < 1.0
    assert content["beside"]["chunks"] > 0
    assert content["beside"]["pictures"] > 0
    assert content["lateness"]["count"] == content["ticks"]
    assert read_picture(picture).shape == (HIGH, WIDE, 3)
    assert "control loop" in done.stdout


@pytest.mark.once
@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    words = [*COMMAND, "--seconds", "60", "--realtime-priority", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    seen = next((line for line in process.stderr if " starting " in line), "")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert seen
    assert process.returncode == 130, rest
    # Its progress by then depends on the machine.
    assert rest.splitlines()[-1] in ("stopped by Ctrl-C: arm not touched", "stopped by Ctrl-C: arm parked and released")
    assert list(tmp_path.glob("sefa-edge*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--arm", "so101"], "--port"),
        (["--port", "/dev/null"], "--port"),
        (["--picture", "x.svg"], "x.svg"),
        (["--json", "/nowhere/x.json"], "/nowhere"),
        (["--rate", "1000"], "--rate"),
        (["--camera", "nothing"], "nothing"),
    ],
)
def test_wrong_arguments_are_one_line(words: list[str], printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    from sefa_edge.cli import main

    assert main(["bench-loop", *words]) == 2
    assert printed in capsys.readouterr().err.splitlines()[0]
