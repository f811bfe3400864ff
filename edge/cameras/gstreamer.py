"""GStreamer pipelines, for CSI cameras: NVIDIA's driver delivers their images through GStreamer only.

The capture time is the time of arrival, because OpenCV hides the buffer's time stamp; the true capture is earlier by
exposure and image processing.
"""

from __future__ import annotations

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, DamageCount, Frame
from sefa_edge.edge.cameras.newest import NewestImage
from sefa_edge.edge.pictures import GSTREAMER_HINT, Capture, has_gstreamer
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import s_to_ns

CSI_SIZE = (1280, 720)
"""Requested from the image processor, which scales down the sensor's nearest larger mode."""
FIRST_NS = s_to_ns(5.0)
STALL_NS = s_to_ns(1.0)
HINT = "try it with `gst-launch-1.0`; GStreamer prints its messages to standard error"
NEWEST_ONLY = "appsink drop=true max-buffers=1 sync=false"
MAX_SENSOR = 7


def csi_pipeline(target: str, rate_hz: float) -> str:
    """The pipeline of CSI camera number `target`, through NVIDIA's image processor.

    Raises:
        InputError: `target` is not a sensor number.
    """
    if not target.isdecimal() or int(target) > MAX_SENSOR:
        raise InputError(f"'{target}' is not a CSI camera number", "csi:0 is the first; use gst:PIPELINE for others")
    width, height = CSI_SIZE
    frames = f"width={width},height={height},framerate={round(rate_hz)}/1"
    return " ! ".join(
        (
            f"nvarguscamerasrc sensor-id={int(target)}",
            f"video/x-raw(memory:NVMM),format=NV12,{frames}",
            "nvvidconv",
            "video/x-raw,format=BGRx",
            *_ENDING,
        )
    )


def user_pipeline(target: str) -> str:
    """The user's pipeline with an appsink added that keeps only the newest image.

    Raises:
        InputError: it already has an appsink.
    """
    if "appsink" in target:
        raise InputError("the pipeline already has an appsink", "remove it: sefa-edge adds one with drop=true")
    return " ! ".join((target.strip().rstrip("!").rstrip(), *_ENDING))


_ENDING = ("videoconvert", "video/x-raw,format=BGR", NEWEST_ONLY)


class GstreamerCamera:
    """`csi:N` or `gst:PIPELINE`."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        self._address = request.address
        self._rate_hz = request.rate_hz
        self._sequence = 0
        self.damage = DamageCount()

    def open(self) -> None:
        csi = self._address.kind == "csi"
        pipeline = csi_pipeline(self._address.target, self._rate_hz) if csi else user_pipeline(self._address.target)
        if not has_gstreamer():
            raise MissingError("this OpenCV was built without GStreamer", GSTREAMER_HINT)
        self._newest = NewestImage(PipelineTap(pipeline), self.damage)
        try:
            self._newest.next(FIRST_NS)
        except CameraLost as error:
            self._newest.close()
            raise InputError(f"{self._address.kind}: {error} (pipeline: {pipeline})", HINT) from None

    def read(self) -> Frame | None:
        arrival = self._newest.next(STALL_NS)
        self._sequence += 1
        return Frame(self._name, self._sequence, arrival.stamp_ns, arrival.stamp_ns, arrival.image)

    def close(self) -> None:
        self._newest.close()


class PipelineTap:
    """A pipeline run by OpenCV. Started at the first grab, because starting may block forever. See `newest.Tap`."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._capture: Capture | None = None

    def grab(self) -> None:
        try:
            self._capture = self._capture or Capture.of_pipeline(self._pipeline)
        except InputError as error:
            raise CameraLost(str(error), HINT) from None
        if not self._capture.grab():
            raise CameraLost("the pipeline ended", HINT)

    def image(self) -> np.ndarray | None:
        return None if self._capture is None else self._capture.retrieve()

    def interrupt(self) -> None:
        """A waiting pipeline cannot be interrupted: its thread ends with the process."""

    def close(self) -> None:
        if self._capture is not None:
            self._capture.close()
