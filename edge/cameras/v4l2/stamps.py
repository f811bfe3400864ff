"""The capture time of an image, depending on what the driver reports about its time stamp."""

from __future__ import annotations

from sefa_edge.edge.cameras.v4l2 import structures as v4l2
from sefa_edge.profiles.units import s_to_ns

PLAUSIBLE_AGE_NS = s_to_ns(1.0)


class StampRule:
    """The rule for one stream: the kernel's time stamp if it is from CLOCK_MONOTONIC, else the time of arrival.

    A driver that claims CLOCK_MONOTONIC is trusted for the whole stream if its first stamp is plausible. Later stamps
    are then used however old they are, so that a stale image shows as stale.

    A stamp is taken at the start of the exposure (flag TSTAMP_SRC_SOE, set by uvcvideo) or when the last row has
    arrived; in the second case the capture is earlier by exposure and transfer, which the driver does not report.
    """

    def __init__(self) -> None:
        self._trusted: bool | None = None

    def capture_ns(self, stamp_ns: int, flags: int, received_ns: int) -> int:
        """The capture time of an image; never later than its arrival."""
        age_ns = received_ns - stamp_ns
        plausible = 0 <= age_ns < PLAUSIBLE_AGE_NS
        source = flags & v4l2.BUF_FLAG_TIMESTAMP_MASK
        if source == v4l2.BUF_FLAG_TIMESTAMP_COPY:
            return received_ns
        if source == v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC:
            if self._trusted is None:
                self._trusted = plausible
            return stamp_ns if self._trusted and age_ns >= 0 else received_ns
        return stamp_ns if plausible else received_ns
