"""The one place that turns a camera request into a back end."""

from __future__ import annotations

from sefa_edge.edge.cameras.camera import CameraRequest, CameraSource


def make_source(request: CameraRequest) -> CameraSource:
    """The back end for a request, not opened yet. Imports only what that back end needs."""
    if request.address.kind == "sim":
        from sefa_edge.edge.cameras.simulated import SimulatedCamera

        return SimulatedCamera(request)
    if request.address.kind == "v4l2":
        from sefa_edge.edge.cameras.v4l2.source import V4l2Camera

        return V4l2Camera(request)
    if request.address.kind == "test":
        from sefa_edge.edge.cameras.test_picture import TestPictureCamera

        return TestPictureCamera(request)
    if request.address.kind in ("csi", "gst"):
        from sefa_edge.edge.cameras.gstreamer import GstreamerCamera

        return GstreamerCamera(request)
    if request.address.kind == "stream":
        from sefa_edge.edge.cameras.stream import StreamCamera

        return StreamCamera(request)
    if request.address.kind == "run":
        from sefa_edge.edge.cameras.recorded import RecordedCamera

        return RecordedCamera(request)
    from sefa_edge.edge.cameras import files

    if request.address.kind == "images":
        return files.ImageFolderCamera(request)
    return files.VideoFileCamera(request)
