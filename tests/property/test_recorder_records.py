"""The recorder's records carry every value bit for bit, and no bytes break their readers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sefa_edge.edge.control.tick_trace import Answer, ArmCall, Operation, TickTrace
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.inference import Inference
from sefa_edge.edge.ipc.records import TickReport, seal
from sefa_edge.edge.ipc.transport import RecordError
from sefa_edge.edge.ipc.vocabulary import Command, Mode, Progress
from sefa_edge.edge.recording import messages
from sefa_edge.edge.recording.run_event import TEXT_BYTES, RunEvent, RunStage
from sefa_edge.firmware_bridge.host.messages import JointGoal, JointState

INT64 = st.integers(-(2**63), 2**63 - 1)
TIME = st.integers(-(2**62), 2**62)  # the difference of two is written, too
NATURAL = st.integers(0, 2**62)
EVENTS = st.sampled_from([*Command, *Progress, *Fault])
CALLS = st.builds(ArmCall, st.sampled_from(Operation), st.sampled_from(Answer), st.integers(0, 2**32 - 1))


def floats(n: int, dtype: type = np.float64) -> st.SearchStrategy[np.ndarray]:
    width = 64 if dtype is np.float64 else 32
    return hnp.arrays(dtype, n, elements=st.floats(width=width))


@st.composite
def states(draw: st.DrawFn, n: int) -> JointState:
    columns = [draw(floats(n)) for _ in range(5)]
    return JointState(
        draw(INT64), draw(INT64), *columns,
        supply_mv=draw(INT64),
        status_bits=draw(hnp.arrays(np.uint8, n)),
        valid_mask=draw(hnp.arrays(np.bool_, n)),
        age_ns=draw(hnp.arrays(np.int64, n)),
    )  # fmt: skip  # pyright: ignore[reportCallIssue]


@st.composite
def traces(draw: st.DrawFn) -> TickTrace:
    n = draw(st.integers(1, 8))
    goal = JointGoal(draw(NATURAL), draw(INT64), draw(INT64), draw(floats(n)))
    report = TickReport(
        draw(NATURAL), draw(TIME), draw(TIME), (1, 2, 3, 4, 5), draw(NATURAL), draw(NATURAL), -1, -1, draw(INT64),
        draw(st.sampled_from(Mode)), draw(st.booleans()), draw(st.sampled_from(Fault)),
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1)),
        draw(floats(n, np.float32)), draw(floats(n, np.float32)),
    )  # fmt: skip
    return TickTrace(
        draw(INT64),
        tuple(draw(st.lists(EVENTS, max_size=5))),
        draw(INT64),
        draw(INT64),
        tuple(draw(st.lists(CALLS, max_size=8))),
        tuple(draw(st.lists(states(n), max_size=3))),
        goal if draw(st.booleans()) else None,
        report,
    )


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


@given(traces())
def test_a_trace_comes_back(trace: TickTrace) -> None:
    again = TickTrace.unpack(trace.pack())
    assert (again.events, again.calls) == (trace.events, trace.calls)
    assert (again.skipped_before, again.chunk_arrived) == (trace.skipped_before, trace.chunk_arrived)
    assert again.heartbeat_ns == trace.heartbeat_ns
    assert again.report.pack() == trace.report.pack()
    assert (again.goal is None) == (trace.goal is None)
    if again.goal is not None and trace.goal is not None:
        assert same_bits(again.goal.joint_deg, trace.goal.joint_deg)
        assert (again.goal.sequence, again.goal.expires_ns) == (trace.goal.sequence, trace.goal.expires_ns)
    for read, written in zip(again.readings, trace.readings, strict=True):
        for name in ("joint_deg", "velocity_deg_s", "load_pct", "status_bits", "valid_mask", "age_ns"):
            assert same_bits(getattr(read, name), getattr(written, name))


@given(traces())
def test_a_trace_survives_the_way_through_json(trace: TickTrace) -> None:
    content = messages.encode(messages.tick_message(trace))
    tick = messages.decode("tick", content, messages.Tick)
    assert tuple(messages.event_of(word) for word in tick.events) == trace.events
    for reading, state in zip(tick.readings, trace.readings, strict=True):
        again = messages.state_of(reading)
        np.testing.assert_array_equal(again.joint_deg, state.joint_deg)
        np.testing.assert_array_equal(
            np.signbit(again.load_pct), np.signbit(state.load_pct) & ~np.isnan(state.load_pct)
        )
        assert same_bits(again.status_bits, state.status_bits)
        assert same_bits(again.age_ns, state.age_ns)


@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 20), st.integers(1, 7), st.data())
def test_an_inference_comes_back(cameras: int, n_obs: int, horizon: int, n: int, data: st.DataObject) -> None:
    frames = tuple(tuple((data.draw(INT64), data.draw(INT64)) for _ in range(n_obs)) for _ in range(cameras))
    draw = lambda *shape: data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))  # noqa: E731
    inference = Inference(1, 2, 3, 4, 5, frames, draw(n_obs, n), draw(horizon, n), draw(horizon, n))
    again = Inference.unpack(inference.pack())
    assert again.frames == frames
    for name in ("joint_deg", "noise", "output"):
        assert same_bits(getattr(again, name), getattr(inference, name))


@given(st.sampled_from(RunStage), INT64, INT64, st.text())
def test_an_event_comes_back(stage: RunStage, stamp_ns: int, episode: int, text: str) -> None:
    again = RunEvent.unpack(RunEvent(stage, stamp_ns, episode, 7, text).pack())
    assert (again.stage, again.stamp_ns, again.episode, again.seed) == (stage, stamp_ns, episode, 7)
    whole = text.encode()[:TEXT_BYTES].rstrip(b"\0").decode(errors="ignore")
    assert again.text == whole


@given(st.binary(max_size=400), st.sampled_from([11, 12, 13]))
def test_no_bytes_break_a_reader(body: bytes, kind: int) -> None:
    from sefa_edge.edge.ipc.records import Kind

    record = seal(Kind(kind), body)
    for read in (TickTrace.unpack, Inference.unpack, RunEvent.unpack):
        for raw in (body, record):
            try:
                read(raw)
            except RecordError:
                continue


@given(st.binary(max_size=300))
def test_no_bytes_break_a_message(content: bytes) -> None:
    from sefa_edge.profiles.errors import InputError

    for model in (messages.Tick, messages.InferenceMessage, messages.Picture):
        try:
            messages.decode("any", content, model)
        except InputError:
            continue
