"""Faults of whole processes, of cameras, engines and disks, injected into a running `sefa-edge run`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.broken_engines import write_failing_engine, write_nan_engine, write_narrow_engine
from tests.faults.row import CONTINUES, DROPPED, LEFT, UNTOUCHED, Expected, Row, Start
from tests.faults.run_rig import RunRig, stepped_clock
from tests.faults.wire_rules import WireSummary

END_S = 60.0
"""From a fault to the end of the run: a few seconds on a quiet machine."""


def stop_all(number: signal.Signals) -> Callable[[RunRig], None]:
    return lambda rig: rig.signal_all(number)


def send(name: str, number: signal.Signals) -> Callable[[RunRig], None]:
    return lambda rig: rig.signal(name, number)


def stop_and_continue(name: str) -> Callable[[RunRig], None]:
    """Stop a process for less than the goal timeout."""

    def inject(rig: RunRig) -> None:
        rig.signal(name, signal.SIGSTOP)
        time.sleep(rig.rng.uniform(0.05, 0.2))
        rig.signal(name, signal.SIGCONT)

    return inject


def ctrl_c_twice(rig: RunRig) -> None:
    rig.signal_all(signal.SIGINT)
    rig.wait_for("Ctrl-C: stopping")
    rig.signal_all(signal.SIGINT)
    rig.wait_for("the run ends in a few seconds")


def emergency_while_parking(rig: RunRig) -> None:
    rig.signal_all(signal.SIGINT)
    rig.wait_for("  parking")
    rig.signal_all(signal.SIGQUIT)


def emergency_while_control_hangs(rig: RunRig) -> None:
    rig.signal(CONTROL, signal.SIGSTOP)
    rig.signal_all(signal.SIGQUIT)


def stop_the_supervisor(rig: RunRig) -> None:
    """Until control has ended the run without it, or is about to."""
    rig.signal("supervisor", signal.SIGSTOP)
    if rig.rng.integers(2):
        time.sleep(rig.rng.uniform(1.5, 2.5))
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
    time.sleep(rig.rng.uniform(0, 2))
    rig.unit.port.replug()


def end_stream(rig: RunRig) -> None:
    rig.stream.end()


def hang_stream(rig: RunRig) -> None:
    rig.stream.is_hung = True


def slow_stream(rig: RunRig) -> None:
    """A stalled stream is opened again and may begin with a frame, so one arrives every 1.3 s."""
    rig.arguments += ["--max-frame-age-ms", "900"]
    rig.start()
    rig.wait_until_moving()
    rig.mark()
    rig.stream.rate_hz = 0.2


def freeze_stream(rig: RunRig) -> None:
    rig.stream.is_frozen = True


def truncate_every_frame(rig: RunRig) -> None:
    rig.stream.truncate_every = 1


def truncate_every_second_frame(rig: RunRig) -> None:
    rig.stream.truncate_every = 2


def darken_stream(rig: RunRig) -> None:
    rig.stream.is_black = True


def lose_stream_for_a_moment(rig: RunRig) -> None:
    rig.arguments += ["--max-frame-age-ms", "5000"]
    rig.start()
    rig.wait_until_moving()
    before = rig.stream.connections
    rig.stream.is_offline = True
    time.sleep(rig.rng.uniform(0.1, 0.5))
    rig.stream.is_offline = False
    rig.until(lambda: rig.stream.connections > before, "the camera to be opened again")


def change_frame_size(rig: RunRig) -> None:
    """Frames of another size may show another part of the scene."""
    rig.stream.size = int(rig.rng.choice([64, 128, 200]))


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
    """The frames' memory file is truncated to nothing, as when memory runs out."""
    folder = Path(f"/proc/{rig.pid_of('supervisor')}/fd")
    ring = next(entry for entry in folder.iterdir() if "sefa-frames" in os.readlink(entry))
    os.truncate(ring, 0)


def kill_video(rig: RunRig) -> None:
    rig.arguments = ["--video", "video.png"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("video_process", signal.SIGKILL)


def stop_video(rig: RunRig) -> None:
    """The video process hangs when it is asked to draw."""
    rig.arguments = ["--video", "video.png"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("video_process", signal.SIGSTOP)


def stop_recorder(rig: RunRig) -> None:
    """The recorder hangs when it is asked to close its file."""
    rig.arguments += ["--record", "recordings"]
    rig.start()
    rig.wait_until_moving()
    rig.signal("recorder_process", signal.SIGSTOP)


def kill_recorder(rig: RunRig) -> None:
    rig.arguments += ["--record", "recordings"]
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


def on_small_disk(rig: RunRig, arguments: list[str], fill: str) -> None:
    """The folder `full` is a separate file system of 400 kB, of which the command `fill` uses a part."""
    full = rig.folder / "full"
    full.mkdir()
    mount = f'mount -t tmpfs -o size=400k none "$0" && {fill}; exec "$@"'
    rig.wrapper = ["unshare", "-rm", "sh", "-c", mount, str(full)]
    rig.arguments = arguments
    rig.port_path = os.path.realpath(rig.port_path)  # its link leads through /proc of this process


def record_on_small_disk(rig: RunRig) -> None:
    on_small_disk(rig, [*rig.arguments, "--record", "full"], "true")
    rig.start()
    rig.wait_until_moving()
    rig.wait_for("the recording ended: ")


def on_full_disk(arguments: list[str]) -> Callable[[RunRig], None]:
    """Reports go to a full file system."""

    def inject(rig: RunRig) -> None:
        on_small_disk(rig, arguments, 'head -c 409600 /dev/zero > "$0/filler"')
        rig.start()
        rig.wait_until_moving()
        rig.mark()
        rig.signal_all(signal.SIGINT)
        rig.wait_for("cannot be written")

    return inject


def ended(says: str) -> Expected:
    return Expected(says, rest_s=END_S)


def stopped(says: str, exit_code: int) -> Expected:
    return Expected(says, exit_code=exit_code, rest_s=END_S)


STARVED = ended("the policy sent no usable action chunk in time")
STALE = ended("a camera gives no fresh picture (front, … old)")
EMERGENCY = Expected("emergency stop", DROPPED, rest_s=END_S)
CAMERA, POLICY, CONTROL = "camera_process", "policy_process", "control_process"

ROWS: list[Row[RunRig]] = [
    Row("Ctrl-C", stop_all(signal.SIGINT), stopped("stopped by Ctrl-C", 130)),
    Row("Ctrl-C twice", ctrl_c_twice, stopped("stopped by Ctrl-C", 130)),
    Row("SIGTERM", stop_all(signal.SIGTERM), stopped("stopped by SIGTERM", 143)),
    Row("the terminal closes (SIGHUP)", stop_all(signal.SIGHUP), stopped("stopped by the terminal's end", 129)),
    Row(
        "Ctrl-C before the arm was touched",
        ctrl_c_at_once,
        Expected("stopped by Ctrl-C", UNTOUCHED, exit_code=130, rest_s=END_S),
        Start.BEFORE,
    ),
    Row("Ctrl-\\", stop_all(signal.SIGQUIT), EMERGENCY),
    Row("Ctrl-\\ on the way home", emergency_while_parking, EMERGENCY),
    Row("Ctrl-\\ while control hangs", emergency_while_control_hangs, EMERGENCY),
    Row("SIGKILL of the supervisor", send("supervisor", signal.SIGKILL), stopped("the … process is gone", -9)),
    Row(
        "SIGKILL of the supervisor, with a simulated world of its own",
        with_own_world("supervisor", signal.SIGKILL),
        stopped("the … process is gone", -9),
        Start.BEFORE,
    ),
    Row("SIGSTOP and SIGCONT of the supervisor", stop_and_continue("supervisor"), CONTINUES),
    Row(
        "SIGSTOP of the supervisor for seconds",
        stop_the_supervisor,
        ended("the supervisor process does not answer"),
    ),
    Row("SIGKILL of the policy", send(POLICY, signal.SIGKILL), ended("the policy process ended: killed by SIGKILL")),
    Row("SIGTERM of the policy", send(POLICY, signal.SIGTERM), ended("the policy process ended: killed by SIGTERM")),
    Row("SIGQUIT of the policy", send(POLICY, signal.SIGQUIT), CONTINUES),
    Row("SIGSTOP of the policy", send(POLICY, signal.SIGSTOP), STARVED),
    Row("SIGSTOP and SIGCONT of the policy", stop_and_continue(POLICY), CONTINUES),
    Row("SIGKILL of a camera", send(CAMERA, signal.SIGKILL), ended("the camera process ended: killed by SIGKILL")),
    Row("SIGTERM of a camera", send(CAMERA, signal.SIGTERM), ended("the camera process ended: killed by SIGTERM")),
    Row("SIGSTOP of a camera", send(CAMERA, signal.SIGSTOP), STALE),
    Row("SIGSTOP and SIGCONT of a camera", stop_and_continue(CAMERA), CONTINUES),
    Row("SIGKILL of control", send(CONTROL, signal.SIGKILL), ended("the control process ended: killed by SIGKILL")),
    Row("SIGSTOP of control", send(CONTROL, signal.SIGSTOP), ended("the control process fell silent")),
    Row(
        "SIGTERM of control",
        send(CONTROL, signal.SIGTERM),
        ended("the control process was asked to end, but not by its supervisor"),
    ),
    Row("SIGQUIT of control", send(CONTROL, signal.SIGQUIT), EMERGENCY),
    Row("SIGINT of every worker", interrupt_workers, CONTINUES),
    Row("SIGKILL of the video process", kill_video, CONTINUES, Start.BEFORE),
    Row("SIGSTOP of the video process", stop_video, CONTINUES, Start.BEFORE),
    Row("SIGKILL of the recorder", kill_recorder, CONTINUES, Start.BEFORE),
    Row("SIGSTOP of the recorder", stop_recorder, CONTINUES, Start.BEFORE),
    Row(
        "SIGSTOP of the simulated world",
        with_own_world("server", signal.SIGSTOP),
        Expected("servos do not answer", LEFT, rest_s=END_S),
        Start.BEFORE,
    ),
    Row(
        "SIGKILL of the simulated world",
        with_own_world("server", signal.SIGKILL),
        Expected("the simulated world process ended: killed by SIGKILL", LEFT, rest_s=END_S),
        Start.BEFORE,
    ),
    Row("the arm's cable is pulled and put back", cable_pulled_and_back, ended("the arm's port disappeared")),
    Row("the camera's stream ends", end_stream, STALE),
    Row("the camera's stream ends and comes back", lose_stream_for_a_moment, CONTINUES, Start.BEFORE),
    Row("the camera's stream hangs", hang_stream, STALE),
    Row("one picture in five seconds", slow_stream, STALE, Start.BEFORE),
    Row("pictures of another size", change_frame_size, STALE),
    Row("the picture is frozen", freeze_stream, ended("a camera repeats the same picture (front, for …)")),
    Row("every picture is cut short", truncate_every_frame, STALE),
    Row("every second picture is cut short", truncate_every_second_frame, CONTINUES),
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
            rest_s=END_S,
        ),
        Start.BEFORE,
    ),
    Row("a second run on the same arm", second_run, CONTINUES),
    Row("the pictures' shared memory is gone", tear_shared_memory, ended("the … process ended: killed by SIGBUS")),
    Row("the wall clock jumps by hours and years", with_stepped_clock, CONTINUES, Start.BEFORE),
    Row("no room for the recording", record_on_small_disk, CONTINUES, Start.BEFORE),
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
    """Inject the fault, check the outcome, and pass the wire figures to `note`. Raises AssertionError."""
    rig = RunRig(folder, seed)
    try:
        if row.start is Start.MOVING:
            rig.start()
            rig.wait_until_moving()
        rig.mark()
        row.inject(rig)
        if row.expected == CONTINUES:
            time.sleep(0.7)
            assert rig.exit_code is None, rig.log()
            assert "fault:" not in rig.log(), rig.log()
            rig.signal_all(signal.SIGINT)
        _judge(rig, row.expected)
    finally:
        note(rig.summary())
        rig.close()


def _judge(rig: RunRig, expected: Expected) -> None:
    outcome = stopped("stopped by Ctrl-C", 130) if expected == CONTINUES else expected
    assert rig.end() == outcome.exit_code, rig.log()
    rig.assert_no_process_is_left()
    lines = [line.strip().removeprefix("error: ") for line in rig.log().splitlines()]
    assert any(outcome.fits(line) for line in lines), rig.log()
    assert "Traceback" not in rig.log(), rig.log()
    rig.assert_clean()
    if not rig.has_own_world:
        assert set(rig.unit.torque_is_on()) == {False}
    if outcome.rest_s is not None:
        assert rig.ended_s - rig.injected_s <= outcome.rest_s, "the run ended too late"
