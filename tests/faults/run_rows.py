"""Faults of whole processes, of cameras, engines and disks, put into a running `sefa-edge run`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.broken_engines import write_failing_engine, write_nan_engine, write_narrow_engine
from tests.faults.row import DROPPED, GOES_ON, LEFT, UNTOUCHED, Expected, Row, Start
from tests.faults.run_rig import RunRig, stepped_clock
from tests.faults.wire_rules import WireSummary

HOME_S = 60.0
"""From a fault to the end of the run: a few seconds on a quiet machine."""


def stop_all(number: signal.Signals) -> Callable[[RunRig], None]:
    return lambda rig: rig.signal_all(number)


def send(name: str, number: signal.Signals) -> Callable[[RunRig], None]:
    return lambda rig: rig.signal(name, number)


def stop_and_continue(name: str) -> Callable[[RunRig], None]:
    """For less than the goal timeout."""

    def inject(rig: RunRig) -> None:
        rig.signal(name, signal.SIGSTOP)
        time.sleep(rig.dice.uniform(0.05, 0.2))
        rig.signal(name, signal.SIGCONT)

    return inject


def twice_ctrl_c(rig: RunRig) -> None:
    rig.signal_all(signal.SIGINT)
    rig.wait_for("Ctrl-C: stopping")
    rig.signal_all(signal.SIGINT)
    rig.wait_for("the run ends in a few seconds")


def emergency_on_the_way_home(rig: RunRig) -> None:
    rig.signal_all(signal.SIGINT)
    rig.wait_for("  parking")
    rig.signal_all(signal.SIGQUIT)


def emergency_while_control_hangs(rig: RunRig) -> None:
    rig.signal(CONTROL, signal.SIGSTOP)
    rig.signal_all(signal.SIGQUIT)


def stop_the_supervisor(rig: RunRig) -> None:
    """Until control has done without it, or is about to."""
    rig.signal("supervisor", signal.SIGSTOP)
    if rig.dice.integers(2):
        time.sleep(rig.dice.uniform(1.5, 2.5))
    else:
        rig.until(lambda: not any(rig.unit.torque_is_on()), "the arm to be released")
    rig.signal("supervisor", signal.SIGCONT)


def ctrl_c_at_once(rig: RunRig) -> None:
    rig.start()
    rig.wait_for("starting")
    rig.signal_all(signal.SIGINT)


def interrupt_workers(rig: RunRig) -> None:
    for pid in rig.pids:
        os.kill(pid, signal.SIGINT)


def with_own_world(name: str, number: signal.Signals) -> Callable[[RunRig], None]:
    def inject(rig: RunRig) -> None:
        rig.has_own_world = True
        rig.start()
        rig.wait_until_moving()
        rig.mark()
        rig.signal(name, number)

    return inject


def cable_pulled_and_back(rig: RunRig) -> None:
    rig.unit.port.unplug()
    rig.wait_for("  holding")
    time.sleep(rig.dice.uniform(0, 2))
    rig.unit.port.replug()


def end_stream(rig: RunRig) -> None:
    rig.stream.end()


def hang_stream(rig: RunRig) -> None:
    rig.stream.is_hung = True


def slow_stream(rig: RunRig) -> None:
    """A stream that stalls is opened again, and may begin with a picture: every 1.3 s there is one."""
    rig.words += ["--max-frame-age-ms", "900"]
    rig.start()
    rig.wait_until_moving()
    rig.mark()
    rig.stream.rate_hz = 0.2


def freeze_stream(rig: RunRig) -> None:
    rig.stream.is_frozen = True


def cut_every_picture(rig: RunRig) -> None:
    rig.stream.cut_every = 1


def cut_every_second_picture(rig: RunRig) -> None:
    rig.stream.cut_every = 2


def darken_stream(rig: RunRig) -> None:
    rig.stream.is_black = True


def lose_stream_for_a_moment(rig: RunRig) -> None:
    rig.words += ["--max-frame-age-ms", "5000"]
    rig.start()
    rig.wait_until_moving()
    before = rig.stream.connections
    rig.stream.is_away = True
    time.sleep(rig.dice.uniform(0.1, 0.5))
    rig.stream.is_away = False
    rig.until(lambda: rig.stream.connections > before, "the camera to be opened again")


def other_size(rig: RunRig) -> None:
    """Another size is another view of the scene."""
    rig.stream.size = int(rig.dice.choice([64, 128, 200]))


def with_engine(write: Callable[[Path], Path]) -> Callable[[RunRig], None]:
    def inject(rig: RunRig) -> None:
        rig.engine = write(rig.folder / "engine")
        rig.start()

    return inject


def with_engine_that_moves_first(write: Callable[[Path], Path]) -> Callable[[RunRig], None]:
    def inject(rig: RunRig) -> None:
        with_engine(write)(rig)
        rig.wait_for("  running")
        rig.pids = rig.children()
        rig.mark()

    return inject


def second_run(rig: RunRig) -> None:
    other = rig.spawn("other")
    rig.until(lambda: other.poll() is not None, "the second run")
    assert other.returncode == 4, rig.log("other")
    assert f"error: {rig.unit.port.path} is in use by another program" in rig.log("other")


def tear_shared_memory(rig: RunRig) -> None:
    """The pictures' memory file is cut to nothing, as it is when memory runs out."""
    folder = Path(f"/proc/{rig.pid_of('supervisor')}/fd")
    ring = next(entry for entry in folder.iterdir() if "sefa-frames" in os.readlink(entry))
    os.truncate(ring, 0)


def kill_video(rig: RunRig) -> None:
    rig.words = ["--video", "video.png"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("video_process", signal.SIGKILL)


def stop_video(rig: RunRig) -> None:
    """It hangs when it is asked to draw."""
    rig.words = ["--video", "video.png"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("video_process", signal.SIGSTOP)


def stop_recorder(rig: RunRig) -> None:
    """It hangs when it is asked to close its file."""
    rig.words += ["--record", "recordings"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("recorder_process", signal.SIGSTOP)


def kill_recorder(rig: RunRig) -> None:
    rig.words += ["--record", "recordings"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("recorder_process", signal.SIGKILL)
    rig.wait_for("the recording ended")


def with_stepped_clock(rig: RunRig) -> None:
    library = stepped_clock(rig.folder)
    if library is not None:
        rig.environment["LD_PRELOAD"] = str(library)
    rig.start()
    rig.wait_until_moving()
    time.sleep(3)  # three steps of the wall clock


def on_small_disk(rig: RunRig, words: list[str], fill: str) -> None:
    """The folder `full` is a file system of its own, with no more room than `fill` leaves."""
    full = rig.folder / "full"
    full.mkdir()
    mount = f'mount -t tmpfs -o size=400k none "$0" && {fill}; exec "$@"'
    rig.wrapper = ["unshare", "-rm", "sh", "-c", mount, str(full)]
    rig.words = words
    rig.port_path = os.path.realpath(rig.port_path)  # its link leads through this process, which is not seen from there


def record_on_small_disk(rig: RunRig) -> None:
    on_small_disk(rig, [*rig.words, "--record", "full"], "true")
    rig.start()
    rig.wait_until_moving()
    rig.wait_for("the recording ended: ")


def on_full_disk(words: list[str]) -> Callable[[RunRig], None]:
    """Reports go to a file system without any room."""

    def inject(rig: RunRig) -> None:
        on_small_disk(rig, words, 'head -c 409600 /dev/zero > "$0/filler"')
        rig.start()
        rig.wait_until_moving()
        rig.mark()
        rig.signal_all(signal.SIGINT)
        rig.wait_for("cannot be written")

    return inject


def ended(says: str) -> Expected:
    return Expected(says, rest_s=HOME_S)


def stopped(says: str, exit_code: int) -> Expected:
    return Expected(says, exit_code=exit_code, rest_s=HOME_S)


STARVED = ended("the policy sent no usable action chunk in time")
STALE = ended("a camera gives no fresh picture (front, … old)")
EMERGENCY = Expected("emergency stop", DROPPED, rest_s=HOME_S)
CAMERA, POLICY, CONTROL = "camera_process", "policy_process", "control_process"

ROWS: list[Row[RunRig]] = [
    Row("Ctrl-C", stop_all(signal.SIGINT), stopped("stopped by Ctrl-C", 130)),
    Row("Ctrl-C twice", twice_ctrl_c, stopped("stopped by Ctrl-C", 130)),
    Row("SIGTERM", stop_all(signal.SIGTERM), stopped("stopped by SIGTERM", 143)),
    Row("the terminal closes (SIGHUP)", stop_all(signal.SIGHUP), stopped("stopped by the terminal's end", 129)),
    Row(
        "Ctrl-C before the arm was touched",
        ctrl_c_at_once,
        Expected("stopped by Ctrl-C", UNTOUCHED, exit_code=130, rest_s=HOME_S),
        Start.BEFORE,
    ),
    Row("Ctrl-\\", stop_all(signal.SIGQUIT), EMERGENCY),
    Row("Ctrl-\\ on the way home", emergency_on_the_way_home, EMERGENCY),
    Row("Ctrl-\\ while control hangs", emergency_while_control_hangs, EMERGENCY),
    Row("SIGKILL of the supervisor", send("supervisor", signal.SIGKILL), stopped("the … process is gone", -9)),
    Row(
        "SIGKILL of the supervisor, with a simulated world of its own",
        with_own_world("supervisor", signal.SIGKILL),
        stopped("the … process is gone", -9),
        Start.BEFORE,
    ),
    Row("SIGSTOP and SIGCONT of the supervisor", stop_and_continue("supervisor"), GOES_ON),
    Row(
        "SIGSTOP of the supervisor for seconds",
        stop_the_supervisor,
        ended("the supervisor process does not answer"),
    ),
    Row("SIGKILL of the policy", send(POLICY, signal.SIGKILL), ended("the policy process ended: killed by SIGKILL")),
    Row("SIGTERM of the policy", send(POLICY, signal.SIGTERM), ended("the policy process ended: killed by SIGTERM")),
    Row("SIGQUIT of the policy", send(POLICY, signal.SIGQUIT), GOES_ON),
    Row("SIGSTOP of the policy", send(POLICY, signal.SIGSTOP), STARVED),
    Row("SIGSTOP and SIGCONT of the policy", stop_and_continue(POLICY), GOES_ON),
    Row("SIGKILL of a camera", send(CAMERA, signal.SIGKILL), ended("the camera process ended: killed by SIGKILL")),
    Row("SIGTERM of a camera", send(CAMERA, signal.SIGTERM), ended("the camera process ended: killed by SIGTERM")),
    Row("SIGSTOP of a camera", send(CAMERA, signal.SIGSTOP), STALE),
    Row("SIGSTOP and SIGCONT of a camera", stop_and_continue(CAMERA), GOES_ON),
    Row("SIGKILL of control", send(CONTROL, signal.SIGKILL), ended("the control process ended: killed by SIGKILL")),
    Row("SIGSTOP of control", send(CONTROL, signal.SIGSTOP), ended("the control process fell silent")),
    Row(
        "SIGTERM of control",
        send(CONTROL, signal.SIGTERM),
        ended("the control process was asked to end, but not by its supervisor"),
    ),
    Row("SIGQUIT of control", send(CONTROL, signal.SIGQUIT), EMERGENCY),
    Row("SIGINT of every worker", interrupt_workers, GOES_ON),
    Row("SIGKILL of the video process", kill_video, GOES_ON, Start.BEFORE),
    Row("SIGSTOP of the video process", stop_video, GOES_ON, Start.BEFORE),
    Row("SIGKILL of the recorder", kill_recorder, GOES_ON, Start.BEFORE),
    Row("SIGSTOP of the recorder", stop_recorder, GOES_ON, Start.BEFORE),
    Row(
        "SIGSTOP of the simulated world",
        with_own_world("server", signal.SIGSTOP),
        Expected("servos do not answer", LEFT, rest_s=HOME_S),
        Start.BEFORE,
    ),
    Row(
        "SIGKILL of the simulated world",
        with_own_world("server", signal.SIGKILL),
        Expected("the simulated world process ended: killed by SIGKILL", LEFT, rest_s=HOME_S),
        Start.BEFORE,
    ),
    Row("the arm's cable is pulled and put back", cable_pulled_and_back, ended("the arm's port disappeared")),
    Row("the camera's stream ends", end_stream, STALE),
    Row("the camera's stream ends and comes back", lose_stream_for_a_moment, GOES_ON, Start.BEFORE),
    Row("the camera's stream hangs", hang_stream, STALE),
    Row("one picture in five seconds", slow_stream, STALE, Start.BEFORE),
    Row("pictures of another size", other_size, STALE),
    Row("the picture is frozen", freeze_stream, ended("a camera repeats the same picture (front, for …)")),
    Row("every picture is cut short", cut_every_picture, STALE),
    Row("every second picture is cut short", cut_every_second_picture, GOES_ON),
    Row("the picture is black", darken_stream, ended("a camera sees nothing (front, for …)")),
    Row(
        "the engine gives NaN",
        with_engine_that_moves_first(write_nan_engine),
        ended("the policy sent an invalid chunk: not finite, or of the wrong shape"),
        Start.BEFORE,
    ),
    Row(
        "the engine fails",
        with_engine_that_moves_first(write_failing_engine),
        ended("the engine failed while it ran"),
        Start.BEFORE,
    ),
    Row(
        "the engine has another shape than its card",
        with_engine(write_narrow_engine),
        Expected(
            "…/model.onnx: 'chunk' is float32 [16, 5], its card says float32 [16, 6]",
            "",
            exit_code=2,
            rest_s=HOME_S,
        ),
        Start.BEFORE,
    ),
    Row("a second run on the same arm", second_run, GOES_ON),
    Row("the pictures' shared memory is gone", tear_shared_memory, ended("the … process ended: killed by SIGBUS")),
    Row("the wall clock jumps by hours and years", with_stepped_clock, GOES_ON, Start.BEFORE),
    Row("no room for the recording", record_on_small_disk, GOES_ON, Start.BEFORE),
    Row(
        "no room for the report",
        on_full_disk(["--video", "none", "--json", "full/run.json"]),
        stopped("stopped by Ctrl-C", 130),
        Start.BEFORE,
    ),
    Row(
        "no room for the pictures",
        on_full_disk(["--video", "full/run.png"]),
        stopped("stopped by Ctrl-C", 130),
        Start.BEFORE,
    ),
]


def perform(
    row: Row[RunRig], seed: int, folder: Path, note: Callable[[WireSummary], None] = lambda figures: None
) -> None:
    """Do it, judge what became of it, and `note` what passed on the wire. Raises AssertionError."""
    rig = RunRig(folder, seed)
    try:
        if row.start is Start.MOVING:
            rig.start()
            rig.wait_until_moving()
        rig.mark()
        row.inject(rig)
        if row.expected == GOES_ON:
            time.sleep(0.7)
            assert rig.exit_code is None, rig.log()
            assert "fault:" not in rig.log(), rig.log()
            rig.signal_all(signal.SIGINT)
        _judge(rig, row.expected)
    finally:
        note(rig.summary())
        rig.close()


def _judge(rig: RunRig, expected: Expected) -> None:
    wanted = stopped("stopped by Ctrl-C", 130) if expected == GOES_ON else expected
    assert rig.end() == wanted.exit_code, rig.log()
    rig.assert_nobody_is_left()
    lines = [line.strip().removeprefix("error: ") for line in rig.log().splitlines()]
    assert any(wanted.fits(line) for line in lines), rig.log()
    assert "Traceback" not in rig.log(), rig.log()
    rig.assert_clean()
    if not rig.has_own_world:
        assert set(rig.unit.torque_is_on()) == {False}
    if wanted.rest_s is not None:
        assert rig.ended_s - rig.injected_s <= wanted.rest_s, "ends too late"
