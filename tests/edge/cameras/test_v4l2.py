"""V4L2 without a camera: structure layout, addresses, modes, time stamps, controls. With one: tests/v4l2."""

from __future__ import annotations

import shutil
import subprocess
from ctypes import Structure, sizeof
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.cameras.camera import CameraRequest, parse_address
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.cameras.v4l2 import structures as v4l2
from sefa_edge.edge.cameras.v4l2.controls import (
    AUTO_GAIN,
    EXPOSURE_ABSOLUTE,
    EXPOSURE_AUTO,
    FOCUS_ABSOLUTE,
    GAIN,
    POWER_LINE_FREQUENCY,
    WHITE_BALANCE_TEMPERATURE,
    lock_controls,
)
from sefa_edge.edge.cameras.v4l2.discovery import (
    CameraWord,
    UsbPort,
    find_device,
    names_of,
    parse_word,
    usb_port_of,
    video_nodes,
)
from sefa_edge.edge.cameras.v4l2.modes import ControlRange, Mode
from sefa_edge.edge.cameras.v4l2.negotiation import check_given, choose_mode, describe, profile_mode
from sefa_edge.edge.cameras.v4l2.stamps import StampRule
from sefa_edge.profiles.camera_profile import CameraProfile, load_camera_profile, shipped_cameras
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import ms_to_ns, s_to_ns

MONOTONIC = v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC
ANY_WEBCAM = (
    Mode("YUYV", 640, 480, 30.0),
    Mode("YUYV", 1280, 720, 10.0),
    Mode("MJPG", 1280, 720, 30.0),
    Mode("MJPG", 640, 480, 30.0),
    Mode("H264", 640, 480, 30.0),
)


def camera_profile(**more: object) -> CameraProfile:
    return CameraProfile(
        **{"schema_version": 1, "name": "mine", "format": "mjpg", "width": 640, "height": 480, "rate_hz": 30.0, **more}  # type: ignore[arg-type]
    )


# -- layout ---------------------------------------------------------


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_layout_is_that_of_the_kernels_header(tmp_path: Path) -> None:
    program = tmp_path / "layout"
    source = Path(__file__).with_name("v4l2_layout.c")
    done = subprocess.run(["cc", "-o", program, source], capture_output=True, text=True, check=False)
    if "videodev2.h" in done.stderr:
        pytest.skip("needs linux/videodev2.h")
    assert done.returncode == 0, done.stderr
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    header = {name: int(value) for name, value in (line.split() for line in lines)}
    assert {name: value_here(name) for name in header} == header
    assert len(header) > 50


def value_here(name: str) -> object:
    kind, _, field = name.partition(".")
    known = getattr(v4l2, kind)
    if field:
        return getattr(known, field).offset
    return sizeof(known) if isinstance(known, type) and issubclass(known, Structure) else known


# -- addresses ---------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two cameras with two nodes each, as udev names them."""
    by_id = tmp_path / "dev/v4l/by-id"
    by_id.mkdir(parents=True)
    for number in (0, 1, 2, 10):
        (tmp_path / f"dev/video{number}").touch()
    for name, number in (("C920_A1-video-index0", 0), ("C920_A1-video-index1", 1), ("C920_B2-video-index0", 2)):
        (by_id / f"usb-046d_{name}").symlink_to(f"../../video{number}")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "device", "profile"),
    [
        ("/dev/video0", "/dev/video0", None),
        ("0@usb_640x480", "0", "usb_640x480"),
        ("by-id/usb-C920@front.yaml", "by-id/usb-C920", "front.yaml"),
        ("by-id/usb@home@front.yaml", "by-id/usb@home", "front.yaml"),
        ("C920@", "C920@", None),
        ("@front", "@front", None),
    ],
)
def test_address_and_profile(word: str, device: str, profile: str | None) -> None:
    assert parse_word(word) == CameraWord(device, profile)


def test_a_name_that_exists_keeps_its_at_sign(machine: Path) -> None:
    (machine / "dev/cam@desk").touch()
    assert parse_word("/dev/cam@desk", machine) == CameraWord("/dev/cam@desk", None)


def test_devices_are_found_by_index_name_and_part(machine: Path) -> None:
    assert find_device("/dev/anything", machine) == "/dev/anything"
    assert find_device("10", machine) == str(machine / "dev/video10")
    whole = str(machine / "dev/v4l/by-id/usb-046d_C920_B2-video-index0")
    assert find_device("by-id/usb-046d_C920_B2-video-index0", machine) == whole
    assert find_device("C920_B2", machine) == whole
    assert find_device("by-id/usb-046d_C920_A1-video-index1", machine).endswith("A1-video-index1")
    assert find_device("C920_A1", machine).endswith("A1-video-index0"), "metadata is not a capture node"


def test_ambiguous_and_missing_names_list_the_candidates(machine: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="matches 2 cameras: usb-046d_C920_A1-video-index0, usb-046d_C920_B2"):
        find_device("C920", machine)
    with pytest.raises(MissingError, match="no camera is named 'Brio'") as refused:
        find_device("Brio", machine)
    assert "usb-046d_C920_B2-video-index0" in refused.value.hint
    with pytest.raises(MissingError) as refused:
        find_device("../../video0", machine)
    assert "C920" in refused.value.hint
    with pytest.raises(MissingError) as refused:
        find_device("Brio", tmp_path / "empty")
    assert refused.value.hint == "no camera is plugged in"


def test_nodes_and_their_names(machine: Path) -> None:
    assert [Path(node).name for node in video_nodes(machine)] == ["video0", "video1", "video2", "video10"]
    assert names_of(str(machine / "dev/video2"), machine) == ["by-id/usb-046d_C920_B2-video-index0"]


def test_where_a_camera_is_plugged_in(tmp_path: Path) -> None:
    usb = tmp_path / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2.3"
    node = usb / "1-2.3:1.0/video4linux/video4"
    node.mkdir(parents=True)
    (node / "device").symlink_to("../..")
    links = tmp_path / "sys/class/video4linux"
    links.mkdir(parents=True)
    (links / "video4").symlink_to(node)
    (usb / "busnum").write_text("1\n")
    for speed, mbit_s in (("480\n", 480), ("1.5\n", 1), ("fast\n", 0)):
        (usb / "speed").write_text(speed)
        assert usb_port_of("/dev/video4", tmp_path) == UsbPort("1-2.3", mbit_s)
    assert usb_port_of("/dev/video5", tmp_path) is None


def test_a_node_that_is_not_a_camera_is_refused(tmp_path: Path) -> None:
    def opening(word: str) -> None:
        make_source(CameraRequest("front", parse_address(word), 30.0, 96, 96)).open()

    with pytest.raises(InputError, match="/dev/null is not a V4L2 device"):
        opening("/dev/null")
    with pytest.raises(MissingError, match="does not exist"):
        opening("v4l2:97")
    with pytest.raises(InputError, match="no camera profile is called 'nice'"):
        opening("/dev/null@nice")
    with pytest.raises(InputError, match="does not exist"):
        opening(f"/dev/null@{tmp_path}/absent.yaml")


# -- modes ---------------------------------------------------------


def test_mjpg_on_usb_2_and_raw_where_there_is_room() -> None:
    assert choose_mode(ANY_WEBCAM, 30.0, 480) == Mode("MJPG", 640, 480, 30.0)
    assert choose_mode(ANY_WEBCAM, 30.0, 5000) == Mode("YUYV", 640, 480, 30.0)
    assert choose_mode(ANY_WEBCAM, 30.0, None) == Mode("YUYV", 640, 480, 30.0)


def test_a_fast_format_is_better_than_a_slow_one() -> None:
    offered = (Mode("YUYV", 640, 480, 10.0), Mode("MJPG", 640, 480, 60.0))
    assert choose_mode(offered, 30.0, None) == Mode("MJPG", 640, 480, 30.0)


def test_larger_pictures_are_better_than_small_ones() -> None:
    offered = (Mode("YUYV", 320, 240, 30.0), Mode("YUYV", 1280, 720, 30.0))
    assert choose_mode(offered, 30.0, None).width == 1280


def test_a_driver_that_lists_nothing_gets_the_usual_request() -> None:
    assert choose_mode((), 30.0, 480) == Mode("MJPG", 640, 480, 30.0)


def test_unsupported_formats_are_reported() -> None:
    with pytest.raises(InputError, match="delivers BG10, none of which"):
        choose_mode((Mode("BG10", 640, 480, 30.0),), 30.0, None)
    with pytest.raises(InputError, match=r"delivers R\?GB, which is not supported"):
        check_given(ANY_WEBCAM[0], Mode("R\x1bGB", 640, 480, 30.0), None)


def test_profile_must_name_a_format_of_the_camera() -> None:
    assert profile_mode(ANY_WEBCAM, camera_profile()) == Mode("MJPG", 640, 480, 30.0)
    with pytest.raises(InputError, match="has no MJPG") as refused:
        profile_mode(ANY_WEBCAM[:2], camera_profile())
    assert refused.value.hint == "it has YUYV"


def test_changes_by_the_driver_are_reported_and_with_a_profile_refused() -> None:
    wanted = Mode("MJPG", 640, 480, 30.0)
    assert check_given(wanted, Mode("MJPG", 640, 480, 30.0), None) is None
    assert check_given(wanted, Mode("MJPG", 640, 480, 0.0), None) is None, "an unreported rate may be right"
    output = check_given(wanted, Mode("MJPG", 640, 480, 15.0), camera_profile())
    assert output == "MJPG 640x480 at 30 Hz was requested, but the camera delivers MJPG 640x480 at 15 Hz"
    assert check_given(wanted, Mode("MJPG", 800, 600, 30.0), None) is not None
    with pytest.raises(InputError, match="delivers YUYV 333x222"):
        check_given(wanted, Mode("YUYV", 333, 222, 30.0), None)
    with pytest.raises(InputError, match="the camera delivers MJPG 800x600"):
        check_given(wanted, Mode("MJPG", 800, 600, 30.0), camera_profile())


def test_modes_as_text() -> None:
    assert describe((Mode("MJPG", 640, 480, 30.0), Mode("MJPG", 640, 480, 7.5))) == ["MJPG 640x480: 30, 7.5 Hz"]


# -- stamps ---------------------------------------------------------


def test_a_monotonic_stamp_is_trusted_however_old_it_is() -> None:
    rule = StampRule()
    assert rule.capture_ns(s_to_ns(1), MONOTONIC, s_to_ns(1.02)) == s_to_ns(1)
    assert rule.capture_ns(s_to_ns(2), MONOTONIC, s_to_ns(9)) == s_to_ns(2), "stale must show as stale"


def test_a_broken_clock_is_never_trusted() -> None:
    rule = StampRule()
    assert rule.capture_ns(s_to_ns(1), MONOTONIC, s_to_ns(9)) == s_to_ns(9)
    assert rule.capture_ns(s_to_ns(9.01), MONOTONIC, s_to_ns(9.02)) == s_to_ns(9.02)


def test_stamps_of_an_unknown_clock_are_used_while_plausible() -> None:
    rule = StampRule()
    assert rule.capture_ns(ms_to_ns(1000), 0, ms_to_ns(1020)) == ms_to_ns(1000)
    assert rule.capture_ns(0, 0, s_to_ns(5)) == s_to_ns(5)
    assert rule.capture_ns(s_to_ns(9), 0, s_to_ns(5)) == s_to_ns(5)
    assert rule.capture_ns(ms_to_ns(1000), v4l2.BUF_FLAG_TIMESTAMP_COPY, ms_to_ns(1020)) == ms_to_ns(1020)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 10**13), st.sampled_from([0, MONOTONIC, 0x4000]), st.integers(0, 10**13))))
def test_no_frame_is_captured_after_its_arrival(pictures: list[tuple[int, int, int]]) -> None:
    rule = StampRule()
    for stamp_ns, flags, received_ns in pictures:
        assert rule.capture_ns(stamp_ns, flags, received_ns) <= received_ns


# -- controls ---------------------------------------------------------


class PaperCamera:
    """The controls of a UVC camera: a value is refused while its automatic mode is on, as in uvcvideo."""

    path = "/dev/video0"

    def __init__(self, **odd: int) -> None:
        self.values = {
            EXPOSURE_AUTO: 3,
            EXPOSURE_ABSOLUTE: 250,
            GAIN: 0,
            0x0098_090C: 1,
            WHITE_BALANCE_TEMPERATURE: 4000,
            POWER_LINE_FREQUENCY: 2,
        }
        self.written: list[tuple[int, int]] = []
        self._keeps_gain = odd.get("keeps_gain")

    def controls(self) -> dict[int, ControlRange]:
        limits = {EXPOSURE_AUTO: (0, 3), EXPOSURE_ABSOLUTE: (3, 2047), WHITE_BALANCE_TEMPERATURE: (2800, 6500)}
        return {number: ControlRange("a control", *limits.get(number, (0, 255)), 1) for number in self.values}

    def read_control(self, number: int) -> int:
        return self.values[number]

    def write_control(self, number: int, value: int) -> None:
        if number == EXPOSURE_AUTO and value not in (1, 3):
            raise OSError(34, "out of range")
        if number == EXPOSURE_ABSOLUTE and self.values[EXPOSURE_AUTO] != 1:
            raise PermissionError(13, "automatic is on")
        if number == WHITE_BALANCE_TEMPERATURE and self.values[0x0098_090C]:
            raise PermissionError(13, "automatic is on")
        self.written.append((number, value))
        self.values[number] = self._keeps_gain if number == GAIN and self._keeps_gain is not None else value


def test_controls_are_set_to_manual_before_the_value() -> None:
    camera = PaperCamera()
    lock_controls(camera, camera_profile(exposure_100us=156, white_balance_k=4600, power_line_hz=50, gain=12))
    assert camera.values[EXPOSURE_AUTO] == 1
    assert camera.values[EXPOSURE_ABSOLUTE] == 156
    assert camera.values[WHITE_BALANCE_TEMPERATURE] == 4600
    assert camera.values[POWER_LINE_FREQUENCY] == 1
    assert camera.values[GAIN] == 12
    assert AUTO_GAIN not in camera.values, "a camera without automatic gain has no switch for it"


def test_automatic_uses_the_mode_that_the_camera_accepts() -> None:
    camera = PaperCamera()
    camera.values[EXPOSURE_AUTO] = 1
    lock_controls(camera, camera_profile(exposure_100us="auto"))
    assert camera.values[EXPOSURE_AUTO] == 3


def test_a_profile_that_says_nothing_writes_nothing() -> None:
    camera = PaperCamera()
    lock_controls(camera, camera_profile())
    assert camera.written == []


def test_refusals_are_one_clear_line() -> None:
    with pytest.raises(InputError, match="has no control for focus"):
        lock_controls(PaperCamera(), camera_profile(focus=10))
    with pytest.raises(InputError, match="refuses white_balance_k: 'a control' does not accept 9000") as refused:
        lock_controls(PaperCamera(), camera_profile(white_balance_k=9000))
    assert refused.value.hint.startswith("it accepts 2800 to 6500")
    with pytest.raises(InputError, match="did not keep gain: 'a control' was set to 12 and reads 8"):
        lock_controls(PaperCamera(keeps_gain=8), camera_profile(gain=12))
    assert FOCUS_ABSOLUTE not in PaperCamera().values


# -- profiles ---------------------------------------------------------


def test_shipped_profiles_lock_nothing() -> None:
    assert shipped_cameras() == ["usb_640x480", "usb_640x480_raw"]
    for name in shipped_cameras():
        profile = load_camera_profile(name)
        assert profile.name == name
        assert profile.exposure_100us is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("exposure: 3", "did you mean 'exposure_100us'"),
        ("gain: -1", "gain"),
        ("white_balance_k: automatic", "white_balance_k"),
        ('name: "\\e[2J"', "name"),
        ("power_line_hz: 55", "power_line_hz"),
        ("rate_hz: .inf", "rate_hz"),
        ("width: 1000000", "width"),
    ],
)
def test_a_wrong_profile_names_its_key(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    known = {
        "schema_version": "1",
        "name": "mine",
        "format": "mjpg",
        "width": "640",
        "height": "480",
        "rate_hz": "30.0",
    }
    key, value = line.split(": ")
    path.write_text("".join(f"{name}: {known[name]}\n" for name in known if name != key) + f"{key}: {value}\n")
    with pytest.raises(InputError) as refused:
        load_camera_profile(str(path))
    assert message in f"{refused.value} {refused.value.hint}"
