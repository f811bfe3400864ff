"""Any frames in any order: good ones cause no trouble, and each kind of bad one is reported with its camera."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.cameras.appearance import STILL_PICTURES, AppearanceMeter
from sefa_edge.edge.cameras.watch import FIRST_PICTURE_NS, CameraWatch, Patience, WatchLimits
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import Trouble
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.profiles.units import ms_to_ns

AGE_NS, SKEW_NS, FROZEN_NS, DARK_NS = (ms_to_ns(duration_ms) for duration_ms in (500, 50, 1000, 400))
START_NS = ms_to_ns(7_000_000)
CAMERAS = ("front", "side", "wrist")
BLIND = Patience(FROZEN_NS, DARK_NS)

names = st.sampled_from(CAMERAS)
gaps_ns = st.integers(0, AGE_NS)


def watch(patience: Patience = BLIND) -> CameraWatch:
    made = CameraWatch(WatchLimits(AGE_NS, SKEW_NS, dict.fromkeys(CAMERAS, patience)))
    made.start(START_NS)
    return made


def descriptor(capture_ns: int, still_ns: int = 0, dark_ns: int = 0) -> FrameDescriptor:
    return FrameDescriptor(0, 1, capture_ns, capture_ns, capture_ns, still_ns, dark_ns)


def fault_of(trouble: Trouble | None) -> Fault:
    return Fault.NONE if trouble is None else trouble.fault


@given(st.lists(st.tuples(gaps_ns, st.integers(0, FROZEN_NS - 1), st.integers(0, DARK_NS - 1))), gaps_ns)
def test_frames_within_their_limits_cause_no_trouble(rounds: list[tuple[int, int, int]], wait_ns: int) -> None:
    judge, now_ns = watch(), START_NS
    for gap_ns, still_ns, dark_ns in rounds:
        assert judge.trouble(now_ns + gap_ns) is None
        now_ns += gap_ns
        for camera in CAMERAS:
            judge.add(camera, descriptor(now_ns, still_ns, dark_ns))
    assert judge.trouble(now_ns + wait_ns) is None
    assert judge.together is bool(rounds)


@given(names, st.integers(1, 10**12))
def test_the_camera_whose_frames_are_too_old_is_named(late: str, beyond_ns: int) -> None:
    judge = watch()
    now_ns = START_NS + AGE_NS + beyond_ns
    for camera in CAMERAS:
        judge.add(camera, descriptor(START_NS if camera == late else now_ns))
    trouble = judge.trouble(now_ns)
    assert fault_of(trouble) is Fault.CAMERA_STALE
    assert str(trouble.about if trouble else "").startswith(f"{late}, ")


@given(names, st.integers(-(10**12), 10**12))
def test_the_first_frame_of_an_episode_may_be_late(silent: str, around_ns: int) -> None:
    judge = watch()
    now_ns = max(START_NS, START_NS + FIRST_PICTURE_NS + around_ns)
    for camera in CAMERAS:
        judge.add(camera, descriptor(START_NS - 1 if camera == silent else now_ns))
    assert fault_of(judge.trouble(now_ns)) is (Fault.CAMERA_STALE if around_ns > 0 else Fault.NONE)
    assert not judge.together


@given(names, st.integers(0, 2 * FROZEN_NS), st.integers(0, 2 * DARK_NS))
def test_a_blind_camera_is_named_and_dark_comes_before_frozen(blind: str, still_ns: int, dark_ns: int) -> None:
    judge, patient = watch(), watch(Patience())
    for camera in CAMERAS:
        frame = descriptor(START_NS, still_ns, dark_ns) if camera == blind else descriptor(START_NS)
        judge.add(camera, frame)
        patient.add(camera, frame)
    trouble = judge.trouble(START_NS)
    frozen = Fault.CAMERA_FROZEN if still_ns >= FROZEN_NS else Fault.NONE
    assert fault_of(trouble) is (Fault.CAMERA_DARK if dark_ns >= DARK_NS else frozen)
    assert trouble is None or trouble.about.startswith(f"{blind}, for ")
    assert patient.trouble(START_NS) is None


@given(st.integers(0, 400), st.integers(3, 40))
def test_cameras_out_of_step_are_reported_and_their_frames_not_used(skew_ms: int, rounds: int) -> None:
    judge, period_ns, skew_ns = watch(), ms_to_ns(100), ms_to_ns(skew_ms)
    found = Fault.NONE
    for index in range(1, rounds):
        now_ns = START_NS + index * period_ns
        for camera in CAMERAS:
            judge.add(camera, descriptor(now_ns - (skew_ns if camera == "side" else 0)))
        found = found or fault_of(judge.trouble(now_ns))
        if judge.together:
            assert skew_ns <= SKEW_NS
    if skew_ns <= SKEW_NS:
        assert found is Fault.NONE
    elif rounds > 12:  # more than the age limit
        assert found is Fault.CAMERA_SKEW


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**9)), min_size=1, max_size=60))
def test_stillness_and_darkness_count_the_last_frames_in_a_row(shots: list[tuple[int, int]]) -> None:
    images = [np.full((9, 7, 3), level, np.uint8) for level in (0, 5, 120, 250)]
    meter, now_ns, stamps = AppearanceMeter(), 0, []
    for index, gap_ns in shots:
        now_ns += gap_ns
        stamps.append((index, now_ns))
        found = meter.add(images[index], now_ns)
        same = _run_of(stamps, {index})
        assert found.still_ns == (now_ns - same[0] if len(same) >= STILL_PICTURES else 0)
        dark = _run_of(stamps, {0, 1})
        assert found.dark_ns == (now_ns - dark[0] if dark else 0)


def _run_of(stamps: list[tuple[int, int]], selected: set[int]) -> list[int]:
    """The stamps of the last consecutive shots of one of the selected images."""
    run: list[int] = []
    for index, stamp_ns in reversed(stamps):
        if index not in selected:
            break
        run.insert(0, stamp_ns)
    return run
