"""The film process: samples the run at 10 Hz and draws it when told that the arm rests.

    python -m sefa_edge.edge.viewing.film_process --config FD

In the simulated world it keeps states and renders them afterwards, large and at leisure; with a real camera
it keeps the policy's own small pictures. It does not slow the run: it reads memory that is shared anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic

import numpy as np

from sefa_edge.edge.ipc.film_order import FilmOrder, Scene
from sefa_edge.edge.ipc.process import child_main
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing
from sefa_edge.edge.viewing.reel import SAMPLE_RATE_HZ, MaterialT, Reel, Sample
from sefa_edge.firmware_bridge.simulation.state_file import PublishedState, StateReader
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import NS_PER_S

VIEW, VIEW_HEIGHT, VIEW_WIDTH = "overview", 240, 320


class RingInput(StrictModel):
    """A camera's ring and a descriptor socket of one's own."""

    height: int
    width: int
    ring_fd: int
    channel_fd: int


class FilmConfig(StrictModel):
    """What the film process is told: where to write, and one of the two places to look."""

    path: str
    supervisor_fd: int
    state_path: str | None = None
    ring: RingInput | None = None


class Camera(Generic[MaterialT]):
    """Collects material while it rolls."""

    def __init__(self, look: Callable[[], MaterialT | None]) -> None:
        self.reel: Reel[MaterialT] = Reel()
        self._look = look
        self._order: FilmOrder | None = None
        self._since_ns = 0

    def obey(self, order: FilmOrder) -> None:
        if order.scene is Scene.ROLL:
            self._order, self._since_ns = order, time.monotonic_ns()
        elif self._order is not None:
            self.reel.caption_last(order.caption)
            self._order = None

    def sample(self) -> None:
        """Look once if it rolls and a sample is due; material that nobody wants is thrown away."""
        material = self._look()
        now_ns = time.monotonic_ns()
        if self._order is None or material is None or not self.reel.wants(now_ns):
            return
        caption = f"{self._order.caption}  {(now_ns - self._since_ns) / NS_PER_S:.1f} s"
        self.reel.add(Sample(now_ns, self._order.episode, caption, material))


def main(content: bytes) -> int:
    """Film until told to develop; without that order nothing is written."""
    config = FilmConfig.model_validate_json(content)
    orders = Channel.from_fd(config.supervisor_fd)
    if config.ring is not None:
        camera = Camera(_ring_look(config.ring))
        if _roll(camera, orders):
            _develop_pictures(Path(config.path), camera.reel)
    elif config.state_path is not None:
        states = Camera(StateReader(Path(config.state_path)).read)
        if _roll(states, orders):
            _develop_states(Path(config.path), states.reel)
    return 0


def _roll(camera: Camera[MaterialT], orders: Channel) -> bool:
    """Whether the end was an order to develop."""
    try:
        while True:
            orders.wait(1.0 / SAMPLE_RATE_HZ / 2)
            for record in orders.drain():
                order = FilmOrder.unpack(record)
                if order.scene is Scene.DEVELOP:
                    return True
                camera.obey(order)
            camera.sample()
    except ChannelClosed:
        return False


def _ring_look(config: RingInput) -> Callable[[], np.ndarray | None]:
    ring = FrameRing(config.ring_fd, config.height, config.width)
    channel = Channel.from_fd(config.channel_fd)

    def look() -> np.ndarray | None:
        try:
            record = channel.newest()
        except ChannelClosed:
            return None
        return ring.read(FrameDescriptor.unpack(record)) if record else None

    return look


def _develop_pictures(path: Path, reel: Reel[np.ndarray]) -> None:
    from sefa_edge.edge.viewing.film import write_film

    write_film(path, reel, lambda picture: picture)


def _develop_states(path: Path, reel: Reel[PublishedState]) -> None:
    from sefa_edge.edge.viewing.film import write_film
    from sefa_edge.firmware_bridge.simulation.scene import Renderer

    with Renderer(VIEW_HEIGHT, VIEW_WIDTH, VIEW) as renderer:
        write_film(path, reel, lambda state: renderer.render(state.qpos, state.goal_position_m))


if __name__ == "__main__":
    raise SystemExit(child_main(main))
