"""When the light of a picture was caught, by what the driver says about its own stamp."""

from __future__ import annotations

from sefa_edge.edge.cameras.v4l2 import structures as v4l2
from sefa_edge.profiles.units import s_to_ns

PLAUSIBLE_AGE_NS = s_to_ns(1.0)


class StampRule:
    """The rule for one stream: the kernel's stamp where it is one of CLOCK_MONOTONIC, else the time of arrival.

    A driver that claims CLOCK_MONOTONIC is believed for the whole stream when its first stamp is plausible, also about
    pictures that are old by then, so that stale shows as stale.

    A stamp is taken at the start of the exposure (flag TSTAMP_SRC_SOE, which uvcvideo sets) or when the last row has
    arrived; then the light is older by exposure and transfer, which the driver does not tell.
    """

    def __init__(self) -> None:
        self._believed: bool | None = None

    def capture_ns(self, stamp_ns: int, flags: int, received_ns: int) -> int:
        """The capture time of a picture; never later than its arrival."""
        age_ns = received_ns - stamp_ns
        plausible = 0 <= age_ns < PLAUSIBLE_AGE_NS
        source = flags & v4l2.BUF_FLAG_TIMESTAMP_MASK
        if source == v4l2.BUF_FLAG_TIMESTAMP_COPY:
            return received_ns
        if source == v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC:
            if self._believed is None:
                self._believed = plausible
            return stamp_ns if self._believed and age_ns >= 0 else received_ns
        return stamp_ns if plausible else received_ns
