"""Runs in the emulated machine of run.sh, on three devices of the kernel's `vivid`, of which the third is multi-planar.

Prints one line per check with its measurement, and exits with 1 if one failed. Timeouts are long, since the machine
is emulated; the driver's answers and the order of events are checked.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, Frame, parse_address
from sefa_edge.edge.cameras.camera_process import CameraConfig
from sefa_edge.edge.cameras.v4l2 import structures as v4l2
from sefa_edge.edge.cameras.v4l2.controls import AUTO_GAIN, GAIN
from sefa_edge.edge.cameras.v4l2.device import Device
from sefa_edge.edge.cameras.v4l2.modes import Mode
from sefa_edge.edge.cameras.v4l2.negotiation import USUAL_SIZE
from sefa_edge.edge.cameras.v4l2.opening import negotiate, note_of
from sefa_edge.edge.cameras.v4l2.source import V4l2Camera
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.transport import Channel, FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.pictures import PictureLayout, rgb_of
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.units import ns_to_ms

DRIVER = Path("/sys/bus/platform/drivers/vivid")
BY_ID = Path("/dev/v4l/by-id")
PROFILES = Path("/tmp")
RATE_HZ = 15.0
PROFILE = "schema_version: 1\nname: {name}\nformat: yuyv\nwidth: {width}\nheight: {height}\nrate_hz: {rate}\n{more}"


def main() -> int:
    plug_in()
    failed = [check.__name__ for check in CHECKS if not passes(check)]
    print(f"{len(CHECKS) - len(failed)} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


def passes(check: Callable[[], str]) -> bool:
    began = time.monotonic()
    try:
        output = check()
    except (AssertionError, OSError, SefaError):
        print(f"FAIL {check.__name__}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"ok   {check.__name__}: {output} ({time.monotonic() - began:.1f} s)", flush=True)
    return True


# -- setup ---------------------------------------------------------


def plug_in() -> None:
    """What udev does when a device appears: a node, and a name that stays the same."""
    if not (DRIVER / "vivid.0").exists():
        (DRIVER / "bind").write_text("vivid.0")
    BY_ID.mkdir(parents=True, exist_ok=True)
    for node in Path("/sys/class/video4linux").iterdir():
        instance = (node / "name").read_text().strip().split("-")[1]  # vivid-000-vid-cap
        link = BY_ID / f"usb-Vivid_Camera_{instance}-video-index0"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../{node.name}")


def unplug() -> None:
    (DRIVER / "unbind").write_text("vivid.0")
    for link in BY_ID.iterdir():
        link.unlink()


def camera_request(address: str) -> CameraRequest:
    return CameraRequest("front", parse_address(address), RATE_HZ, 96, 96)


def profile(name: str, size: tuple[int, int] = (320, 180), more: str = "") -> str:
    path = PROFILES / f"{name}.yaml"
    path.write_text(PROFILE.format(name=name, width=size[0], height=size[1], rate=RATE_HZ, more=more))
    return str(path)


@contextlib.contextmanager
def camera(address: str) -> Iterator[V4l2Camera]:
    source = V4l2Camera(camera_request(address))
    source.open()
    try:
        yield source
    finally:
        source.close()


def frames(source: V4l2Camera, count: int) -> list[Frame]:
    found: list[Frame] = []
    for _ in range(10 * count):
        frame = source.read()
        if frame is not None:
            found.append(frame)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} of {count} frames arrived")


def refusal(address: str, kind: type[SefaError]) -> str:
    """The error message of opening."""
    try:
        with camera(address):
            pass
    except kind as error:
        return f"{error} | {error.hint}"
    raise AssertionError(f"{address} was not refused")


def control_named(device: Device, name: str) -> int:
    return next(number for number, control in device.controls().items() if control.name == name)


# -- the checks ---------------------------------------------------------


def finds_devices() -> str:
    """By path, index, name and part of a name; ambiguous and missing names list the candidates."""
    for address in ("/dev/video0", "v4l2:0", "v4l2:by-id/usb-Vivid_Camera_000-video-index0", "v4l2:Camera_000"):
        found = negotiate(camera_request(address))
        found.device.close()
        assert found.device.driver == "vivid"
        assert os.path.realpath(found.device.path) == "/dev/video0"
    assert "fits 3 cameras" in refusal("v4l2:Vivid", MissingError)
    assert "Camera_001" in refusal("v4l2:by-id/C920", MissingError)
    return refusal("v4l2:Vivid", MissingError)


def refuses_other_devices() -> str:
    assert "is not a V4L2 device" in refusal("/dev/null", InputError)
    assert "does not exist" in refusal("/dev/video9", MissingError)
    output = refusal("/dev/video2", InputError)
    assert "multi-planar" in output
    return output


def lists_modes() -> str:
    device = Device("/dev/video0")
    modes = device.modes(USUAL_SIZE)
    device.close()
    assert any((mode.fourcc, mode.width, mode.height) == ("YUYV", 640, 480) for mode in modes)
    assert all(mode.rate_hz > 0 for mode in modes)
    return f"{len(modes)} modes, {len({mode.fourcc for mode in modes})} formats"


def chooses_without_profile() -> str:
    found = negotiate(camera_request("/dev/video0"))
    found.device.close()
    assert (found.mode.fourcc, found.mode.width, found.mode.height) == ("YUYV", 640, 480)
    return f"{found.mode}; output: {found.note}"


def uses_a_profile() -> str:
    found = negotiate(camera_request(f"/dev/video1@{profile('small')}"))
    found.device.close()
    assert (found.mode.width, found.mode.height) == (320, 180)
    odd = refusal(f"/dev/video1@{profile('odd', (333, 222))}", InputError)
    assert "asked for YUYV 333x222" in odd
    mjpg = Path(profile("mjpg"))
    mjpg.write_text(mjpg.read_text().replace("yuyv", "mjpg"))
    assert "has no MJPG" in refusal(f"/dev/video1@{mjpg}", InputError)
    return odd


def stamps_are_the_kernels() -> str:
    """Strictly rising, never after arrival, close to it. (vivid's stamps of the end of a frame lie in the future.)"""
    device = Device("/dev/video0")
    device.write_control(control_named(device, "Timestamp Source"), 1)
    device.close()
    with camera(f"v4l2:by-id/usb-Vivid_Camera_000-video-index0@{profile('small')}") as source:
        taken = frames(source, 45)
    stamps = np.array([frame.capture_ns for frame in taken])
    late_ms = np.array([ns_to_ms(frame.received_ns - frame.capture_ns) for frame in taken])
    rate_hz = 1e9 / np.median(np.diff(stamps))
    assert (np.diff(stamps) > 0).all()
    assert (late_ms >= 0).all()
    assert (late_ms > 0.001).any(), "a stamp that equals arrival is not the kernel's"
    assert np.median(late_ms) < 500.0
    assert [frame.sequence for frame in taken] == list(range(1, 46))
    return f"{rate_hz:.2f} Hz, arrival after the stamp: median {np.median(late_ms):.1f} ms, max {late_ms.max():.1f} ms"


def two_at_once() -> str:
    """Two devices, two sizes, one process; each in its own order."""
    with (
        camera("/dev/video0@" + profile("wide", (640, 360))) as first,
        camera("/dev/video1@" + profile("small")) as other,
    ):
        pairs = [(frames(first, 1)[0], frames(other, 1)[0]) for _ in range(15)]
    assert {(a.image.shape, b.image.shape) for a, b in pairs} == {((360, 640, 3), (180, 320, 3))}
    skew_ms = [abs(ns_to_ms(a.capture_ns - b.capture_ns)) for a, b in pairs]
    return f"skew median {np.median(skew_ms):.0f} ms"


def formats_give_the_same_image() -> str:
    """The same colour bars as YUYV and as UYVY; vivid's 100 % bars start with white, yellow, cyan, green."""
    images = {}
    for fourcc in ("YUYV", "UYVY"):
        device = Device("/dev/video0")
        device.write_control(control_named(device, "OSD Text Mode"), 2)
        given = device.set_mode(Mode(fourcc, 320, 180, RATE_HZ))
        device.start(3)
        assert device.wait(5.0)
        filled = device.take()
        assert filled is not None
        layout = PictureLayout(given.fourcc, given.height, given.width, device.stride)
        images[fourcc] = rgb_of(filled.content, layout)
        device.close()
    yuyv, uyvy = images["YUYV"], images["UYVY"]
    assert yuyv is not None
    assert uyvy is not None
    np.testing.assert_array_equal(yuyv, uyvy)
    bars = [tuple(int(level) for level in yuyv[90, 20 + 40 * bar]) for bar in range(4)]
    for bar, colour in zip(bars, ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0)), strict=True):
        assert [level > 128 for level in bar] == [bool(level) for level in colour], bars
    return f"bars {bars}"


def returns_the_newest() -> str:
    """After a pause in which the driver ran out of buffers, no old frame is returned."""
    ages_ms: list[float] = []
    with camera("/dev/video0@" + profile("small")) as source:
        frames(source, 3)
        for _ in range(3):
            time.sleep(2.0)
            asked_ns = time.monotonic_ns()
            frame = frames(source, 1)[0]
            ages_ms.append(ns_to_ms(asked_ns - frame.capture_ns))
    assert max(ages_ms) < 1000.0 / RATE_HZ, f"{ages_ms} ms old when asked for"
    return f"caught {', '.join(f'{-age:.0f}' for age in ages_ms)} ms after it was asked for, paused 2 s each time"


def locks_controls() -> str:
    with camera(f"/dev/video0@{profile('locked', more='gain: 77')}") as source:
        frames(source, 2)
        device = Device("/dev/video0")
        kept = device.read_control(AUTO_GAIN), device.read_control(GAIN)
        device.close()
    assert kept == (0, 77)
    with camera(f"/dev/video0@{profile('free', more='gain: auto')}"):
        device = Device("/dev/video0")
        automatic = device.read_control(AUTO_GAIN)
        device.close()
    assert automatic == 1
    return f"automatic gain {kept[0]}, gain {kept[1]}; given back: {automatic}"


def leaves_controls_as_found() -> str:
    device = Device("/dev/video0")
    device.write_control(AUTO_GAIN, 0)
    device.write_control(GAIN, 33)
    with camera(f"/dev/video0@{profile('small')}") as source:
        frames(source, 2)
    kept = device.read_control(AUTO_GAIN), device.read_control(GAIN)
    device.close()
    assert kept == (0, 33)
    return f"gain still {kept[1]}"


def refuses_controls() -> str:
    lacks = refusal(f"/dev/video0@{profile('exposed', more='exposure_100us: 156')}", InputError)
    assert "has no control for exposure_100us" in lacks
    far = refusal(f"/dev/video0@{profile('loud', more='gain: 5000')}", InputError)
    assert "refuses gain" in far
    return f"{lacks}; {far}"


def skips_damaged_frames() -> str:
    """vivid marks the next buffer as damaged on request; that one is never returned."""
    with camera(f"/dev/video0@{profile('small')}") as source:
        before = frames(source, 2)[-1]
        device = Device("/dev/video0")
        device.write_control(control_named(device, "Inject V4L2_BUF_FLAG_ERROR"), 1)
        device.close()
        after = frames(source, 6)
    gaps_ms = np.diff([frame.capture_ns for frame in (before, *after)]) / 1e6
    assert gaps_ms.max() > 1.5 * 1000 / RATE_HZ, f"no frame is missing: {gaps_ms}"
    return f"gaps of {gaps_ms.min():.0f} to {gaps_ms.max():.0f} ms"


def reports_the_source_of_stamps() -> str:
    """Start of exposure or end of frame, as the driver flags it."""
    device = Device("/dev/video0")
    source_control = control_named(device, "Timestamp Source")
    seen: list[int] = []
    for value, flag in ((0, 0), (1, v4l2.BUF_FLAG_TSTAMP_SRC_SOE)):
        device.write_control(source_control, value)
        other = Device("/dev/video0")
        other.set_mode(Mode("YUYV", 320, 180, RATE_HZ))
        other.start(3)
        assert other.wait(5.0)
        filled = other.take()
        assert filled is not None
        seen.append(filled.flags & v4l2.BUF_FLAG_TSTAMP_SRC_MASK)
        assert seen[-1] == flag
        assert filled.flags & v4l2.BUF_FLAG_TIMESTAMP_MASK == v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC
        other.close()
    device.write_control(source_control, 0)
    device.close()
    return f"flags {[hex(flag) for flag in seen]}, clock monotonic"


def is_refused_while_in_use() -> str:
    with camera("/dev/video0"):
        output = refusal("/dev/video0", MissingError)
    assert "fuser" in output
    return output


def ends_when_the_stream_fails() -> str:
    """vivid's fatal streaming error stands for a driver that failed."""
    with camera(f"/dev/video0@{profile('small')}") as source:
        frames(source, 2)
        device = Device("/dev/video0")
        device.write_control(control_named(device, "Inject Fatal Streaming Error"), 1)
        device.close()
        began = time.monotonic()
        lost = loss(source)
    return f"'{lost}' after {time.monotonic() - began:.2f} s"


def loss(source: V4l2Camera) -> CameraLost:
    for _ in range(100):
        try:
            source.read()
        except CameraLost as error:
            return error
    raise AssertionError("the camera is gone and no read reported it")


def unplugged_while_reading() -> str:
    """The driver is unbound during the read; then the camera returns under the same name, twice."""
    address = f"v4l2:by-id/usb-Vivid_Camera_000-video-index0@{profile('small')}"
    output: list[str] = []
    for _ in range(2):
        gone_at: list[float] = []
        with camera(address) as source:
            frames(source, 3)
            pulling = threading.Timer(0.5, lambda stamps=gone_at: (stamps.append(time.monotonic()), unplug()))
            pulling.start()
            loss(source)
            noticed = time.monotonic()
            pulling.join()
        assert noticed - gone_at[0] < 5.0
        assert "no camera" in refusal(address, MissingError)
        plug_in()
        with camera(address) as source:
            back = frames(source, 3)
        assert len(back) == 3
        output.append(f"{noticed - gone_at[0]:.2f} s")
    return f"noticed after {' and '.join(output)}; returned under the same name"


def checks_before_the_run() -> str:
    """The check of `sefa-edge run` before it starts anything."""
    addresses = ("v4l2:Camera_000", f"v4l2:Camera_001@{profile('small')}")
    first, second = (note_of(CameraRequest("front", parse_address(address), 200.0, 96, 96)) for address in addresses)
    assert second is None, second
    assert first is not None
    assert first.startswith("YUYV 640x480 at 200 Hz was requested, but the camera delivers YUYV 640x480 at")
    return first


def command_describes_cameras() -> str:
    command = [sys.executable, "-m", "sefa_edge", "cameras"]
    listed, described = (
        subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
        for more in ((), ("Camera_000",))
    )
    assert "/dev/video0  vivid (vivid, not on USB)  by-id/usb-Vivid_Camera_000-video-index0" in listed
    assert "/dev/video2" not in listed
    assert "gain: 0 to 255 in steps of 1 ('Gain')" in described
    return " / ".join(described.splitlines()[:3])


def camera_process_survives_unplugging() -> str:
    """The process of a real run: frames of the policy's size, also after the camera was unplugged for a second."""
    ring = FrameRing.create(96, 96)
    near, far = channel_pair()
    config = CameraConfig(
        name="front",
        address=f"v4l2:Camera_001@{profile('small')}",
        rate_hz=RATE_HZ,
        height=96,
        width=96,
        ring_fd=ring.fd,
        reader_fds=[near.fileno()],
    )
    module = "sefa_edge.edge.cameras.camera_process"
    child = Child(ChildSpec("camera", module, config.to_json(), (ring.fd, near.fileno())))
    near.close()
    first = descriptors(far, child, 0)
    unplug()
    away_ns = time.monotonic_ns()
    time.sleep(1.0)
    plug_in()
    again = descriptors(far, child, away_ns)
    child.stop(5.0)
    errors = child.stderr_tail()
    child.close()
    far.close()
    ring.close()
    assert first, errors
    assert again, errors
    delays_ms = [ns_to_ms(record.published_ns - record.capture_ns) for record in first]
    assert min(delays_ms) > 0
    gap_ms = ns_to_ms(again[0].capture_ns - away_ns)
    return f"published {np.median(delays_ms):.1f} ms after the stamp (median); again {gap_ms:.0f} ms after the loss"


def descriptors(channel: Channel, child: Child, since_ns: int) -> list[FrameDescriptor]:
    """Twenty frames that were captured after that time, or fewer if they do not arrive."""
    found: list[FrameDescriptor] = []
    deadline_s = time.monotonic() + 60
    while len(found) < 20 and time.monotonic() < deadline_s and child.exit_code is None:
        records = [FrameDescriptor.unpack(record) for record in channel.drain()]
        found += [record for record in records if record.capture_ns > since_ns]
        time.sleep(0.01)
    return found


CHECKS = (
    finds_devices,
    refuses_other_devices,
    lists_modes,
    chooses_without_profile,
    uses_a_profile,
    stamps_are_the_kernels,
    two_at_once,
    formats_give_the_same_image,
    returns_the_newest,
    locks_controls,
    leaves_controls_as_found,
    refuses_controls,
    skips_damaged_frames,
    reports_the_source_of_stamps,
    is_refused_while_in_use,
    ends_when_the_stream_fails,
    unplugged_while_reading,
    checks_before_the_run,
    command_describes_cameras,
    camera_process_survives_unplugging,
)

if __name__ == "__main__":
    sys.exit(main())
