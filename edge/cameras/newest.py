"""The newest image of a stream: a thread grabs every image, and decodes only the ones that are requested.

Images in a queue become stale. The thread therefore grabs continuously, and the queue stays empty.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, DamageCount
from sefa_edge.profiles.units import NS_PER_S, ns_to_ms

JOIN_TIMEOUT_S = 2.0


class Tap(Protocol):
    """A running stream. All calls but `interrupt` come from one thread."""

    def grab(self) -> None:
        """Wait for the next image and keep it undecoded. Raises CameraLost if there will be no more."""
        ...

    def image(self) -> np.ndarray | None:
        """The grabbed image uint8 [H, W, 3]; None when it is damaged."""
        ...

    def interrupt(self) -> None:
        """Make a waiting `grab` return soon; called from another thread."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """An image uint8 [H, W, 3] and its time of arrival (CLOCK_MONOTONIC)."""

    stamp_ns: int
    image: np.ndarray


class NewestImage:
    """Grabs images from a tap, which it owns, until closed."""

    def __init__(self, tap: Tap, damage: DamageCount) -> None:
        """Requested images that are damaged are counted in `damage`."""
        self._tap = tap
        self._damage = damage
        self._changed = threading.Condition()
        self._wanted = False
        self._arrival: Arrival | None = None
        self._failure: CameraLost | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def next(self, timeout_ns: int) -> Arrival:
        """The next image to arrive.

        Raises:
            CameraLost: none arrived within `timeout_ns`, or there will be no more.
        """
        damaged_before = self._damage.images
        with self._changed:
            self._wanted, self._arrival = True, None
            self._changed.wait_for(lambda: self._arrival or self._failure, timeout_ns / NS_PER_S)
            if self._arrival is not None:
                return self._arrival
            if self._failure is not None:
                raise self._failure
        if damaged := self._damage.images - damaged_before:
            raise CameraLost(
                f"no intact picture arrived within {ns_to_ms(timeout_ns):.0f} ms, but {damaged} damaged ones",
                "check the camera, its cable, and the sender's buffer size: they are truncated, or are not JPEG",
            )
        raise CameraLost(
            f"nothing arrived within {ns_to_ms(timeout_ns):.0f} ms", "is the sender still running, and the network up?"
        )

    def close(self) -> None:
        self._closing = True
        self._tap.interrupt()
        self._thread.join(JOIN_TIMEOUT_S)

    def _take(self) -> None:
        try:
            while not self._closing:
                self._tap.grab()
                stamp_ns = time.monotonic_ns()
                if not self._wanted:
                    continue
                image = self._tap.image()
                if image is None:
                    self._damage.images += 1
                else:
                    self._deliver(Arrival(stamp_ns, image))
        except CameraLost as failure:
            self._deliver(failure)
        finally:
            self._tap.close()

    def _deliver(self, result: Arrival | CameraLost) -> None:
        with self._changed:
            if isinstance(result, Arrival):
                self._wanted, self._arrival = False, result
            else:
                self._failure = result
            self._changed.notify()
