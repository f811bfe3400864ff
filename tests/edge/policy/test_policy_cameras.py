"""The policy process with two cameras: it uses the frames of both, and reports a fault of one to control."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk, Order, PolicyCommand, PolicyEvent, PolicyReport, Trouble
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.record_header import Kind, kind_of
from sefa_edge.edge.ipc.records import JointSample
from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.edge.ipc.transport import FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.policy.policy_process import PolicyConfig
from sefa_edge.profiles.units import ms_to_ns

PATIENCE_S = 60.0
SIDES = ("front", "side")
FROZEN_NS, DARK_NS, AGE_MS = ms_to_ns(200), ms_to_ns(100), 1000.0


class Bench:
    """A policy process, with the test as supervisor, control and both cameras."""

    def __init__(self, engine: Path) -> None:
        self.supervisor, far_supervisor = channel_pair()
        self.control, far_control = channel_pair()
        pairs = {name: channel_pair() for name in SIDES}
        self.cameras = {name: near for name, (near, _) in pairs.items()}
        self.rings = {name: FrameRing.create(96, 96) for name in SIDES}
        far = {name: end for name, (_, end) in pairs.items()}
        inputs = [
            RingInput(name=name, height=96, width=96, ring_fd=self.rings[name].fd, channel_fd=far[name].fileno())
            for name in SIDES
        ]
        config = PolicyConfig(
            engine=str(engine), cameras=inputs, max_age_ms=1e5, max_frame_age_ms=AGE_MS, max_skew_ms=50.0,
            frozen_ns=dict.fromkeys(SIDES, FROZEN_NS), dark_ns=dict.fromkeys(SIDES, DARK_NS),
            supervisor_fd=far_supervisor.fileno(), control_fd=far_control.fileno(),
        )  # fmt: skip
        fds = [end.fileno() for end in (far_supervisor, far_control, *far.values())]
        fds += [ring.fd for ring in self.rings.values()]
        module = "sefa_edge.edge.policy.policy_process"
        self.child = Child(ChildSpec("policy", module, config.model_dump_json(), tuple(fds)))
        for end in (far_supervisor, far_control, *far.values()):
            end.close()
        self._sequence = 0
        self._episode = 0

    def begin(self) -> None:
        """A new episode, from now on."""
        self._episode += 1
        self.supervisor.send(PolicyCommand(Order.RUN, self._episode, 0, time.monotonic_ns()).pack())

    def see(self, behind_ns: int = 0, still_ns: int = 0, dark_ns: int = 0) -> None:
        """A good frame from `front`, and this one from `side`."""
        self._sequence += 1
        now_ns = time.monotonic_ns()
        self.control.send(JointSample(now_ns, np.zeros(6, np.float32)).pack())
        self._send("front", now_ns)
        self._send("side", now_ns - behind_ns, still_ns, dark_ns)

    def answer(self, behind_ns: int = 0, still_ns: int = 0, dark_ns: int = 0) -> ActionChunk | Trouble:
        """What control receives while both cameras continue like that."""
        give_up = time.monotonic() + PATIENCE_S
        while (heard := self._heard(0.02)) is None:
            assert time.monotonic() < give_up
            self.see(behind_ns, still_ns, dark_ns)
        return heard

    def answer_to_silence(self) -> ActionChunk | Trouble:
        while (heard := self._heard(PATIENCE_S)) is None:
            pass
        return heard

    def close(self) -> None:
        for channel in (self.supervisor, self.control, *self.cameras.values()):
            channel.close()
        self.child.stop(PATIENCE_S)
        self.child.close()
        for ring in self.rings.values():
            ring.close()

    def events(self) -> set[PolicyEvent]:
        return {PolicyReport.unpack(record).event for record in self.supervisor.drain()}

    def _heard(self, patience_s: float) -> ActionChunk | Trouble | None:
        """None: nothing yet, or only the record that an inference began."""
        record = self.control.receive() if self.control.wait(patience_s) else None
        assert record is not None or patience_s < PATIENCE_S
        if record is None or kind_of(record) is Kind.INFERENCE_BEGUN:
            return None
        return Trouble.unpack(record) if kind_of(record) is Kind.TROUBLE else ActionChunk.unpack(record, T=16, n=6)

    def _send(self, name: str, capture_ns: int, still_ns: int = 0, dark_ns: int = 0) -> None:
        slot = self.rings[name].write(self._sequence, np.full((96, 96, 3), 90, np.uint8))
        stamps = (capture_ns, time.monotonic_ns(), time.monotonic_ns())
        self.cameras[name].send(FrameDescriptor(slot, self._sequence, *stamps, still_ns, dark_ns).pack())


@pytest.fixture
def bench(two_camera_engine: Path) -> Iterator[Bench]:
    made = Bench(two_camera_engine)
    try:
        assert made.supervisor.wait(PATIENCE_S)
        assert made.events() == {PolicyEvent.READY}
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_it_uses_both_cameras_and_reports_when_one_fails(bench: Bench) -> None:
    bench.begin()
    first = bench.answer()
    assert isinstance(first, ActionChunk)
    assert first.observed_ns <= time.monotonic_ns()

    for still_ns, dark_ns, fault, about in (
        (FROZEN_NS, 0, Fault.CAMERA_FROZEN, "side, for 0.20 s"),
        (FROZEN_NS, DARK_NS, Fault.CAMERA_DARK, "side, for 0.10 s"),
    ):
        bench.begin()
        assert _after_chunks(bench, still_ns=still_ns, dark_ns=dark_ns) == Trouble(fault, about)

    bench.begin()
    bench.events()
    assert _after_chunks(bench, behind_ns=ms_to_ns(80)) == Trouble(Fault.CAMERA_SKEW, "side, 80 ms behind")
    assert PolicyEvent.CHUNK not in bench.events()

    bench.begin()
    assert isinstance(bench.answer(), ActionChunk)
    received = bench.answer_to_silence()
    while isinstance(received, ActionChunk):  # from earlier frames
        received = bench.answer_to_silence()
    assert received.fault is Fault.CAMERA_STALE
    assert received.about.startswith("front, ")
    assert received.about.endswith(" s old")


def _after_chunks(bench: Bench, **how: int) -> Trouble:
    """The fault that is reported after the chunks that were already sent."""
    while isinstance(received := bench.answer(**how), ActionChunk):
        pass
    return received
