"""Looks at the V4L2 cameras of a run before it starts: are they there, what do they give, do they fit on the bus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sefa_edge.edge.cameras.camera import CameraRequest
from sefa_edge.edge.cameras.v4l2.controls import lock_controls
from sefa_edge.edge.cameras.v4l2.opening import negotiate
from sefa_edge.edge.cameras.v4l2.usb_bandwidth import UsbCamera, check_bandwidth, place_of


def look_at(requests: Iterable[CameraRequest], root: Path = Path("/")) -> list[str]:
    """Negotiate with each camera, lock its controls, and let it go again; returns what a person should know.

    Raises:
        MissingError: a camera is not there, or in use.
        InputError: it does not do what its profile says, or the pictures do not fit on the USB bus.
    """
    notes: list[str] = []
    on_usb: list[UsbCamera] = []
    for request in requests:
        found = negotiate(request)
        try:
            if found.profile is not None:
                lock_controls(found.device, found.profile)
        finally:
            found.device.close()
        if found.note is not None:
            notes.append(f"camera {request.name}: {found.note}")
        place = place_of(found.device.path, root)
        if place is not None:
            on_usb.append(UsbCamera(request.name, place, found.mode))
    return notes + check_bandwidth(on_usb)
