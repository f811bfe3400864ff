"""GStreamer pipelines, for cameras on CSI: NVIDIA's driver gives their pictures to GStreamer alone.

A frame counts as caught when it arrives, since OpenCV hides the buffer's own stamp: the light is older by exposure and
image processing.
"""

from __future__ import annotations

import time

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, Frame
from sefa_edge.edge.cameras.pictures import Capture
from sefa_edge.profiles.errors import InputError

CSI_SIZE = (1280, 720)
"""Asked of the image processor, which scales the sensor's nearest larger mode."""
TIMEOUT_S = 5.0
NEWEST_ONLY = "appsink drop=true max-buffers=1 sync=false"
MAX_SENSOR = 7


def csi_pipeline(target: str, rate_hz: float) -> str:
    """The pipeline of a CSI camera by its number, through NVIDIA's image processor.

    Raises:
        InputError: not a number of a sensor.
    """
    if not target.isdecimal() or int(target) > MAX_SENSOR:
        raise InputError(f"'{target}' is not the number of a CSI camera", "csi:0 is the first; gst:PIPELINE for others")
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
    """A pipeline of the user's, brought to an end that hands over only the newest picture.

    Raises:
        InputError: it brings a sink of its own.
    """
    if "appsink" in target:
        raise InputError("the pipeline has a sink of its own", "leave appsink out: it is added, with drop=true")
    return " ! ".join((target.strip().rstrip("!").rstrip(), *_ENDING))


_ENDING = ("videoconvert", "video/x-raw,format=BGR", NEWEST_ONLY)


class GstreamerCamera:
    """`csi:N` or `gst:PIPELINE`."""

    def __init__(self, request: CameraRequest) -> None:
        self._name = request.name
        address = request.address
        csi = address.kind == "csi"
        self._pipeline = csi_pipeline(address.target, request.rate_hz) if csi else user_pipeline(address.target)
        self._sequence = 0

    def open(self) -> None:
        self._capture = Capture.of_pipeline(self._pipeline, TIMEOUT_S)

    def read(self) -> Frame | None:
        picture = self._capture.retrieve() if self._capture.grab() else None
        stamp_ns = time.monotonic_ns()
        if picture is None:
            raise CameraLost(f"the pipeline ended: {self._pipeline}", "GStreamer's own words are above")
        self._sequence += 1
        return Frame(self._name, self._sequence, stamp_ns, stamp_ns, picture)

    def close(self) -> None:
        self._capture.close()
