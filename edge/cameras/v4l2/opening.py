"""Opens the device of a camera address and sets format, size and rate."""

from __future__ import annotations

from dataclasses import dataclass

from sefa_edge.edge.cameras.camera import CameraRequest
from sefa_edge.edge.cameras.v4l2.device import Device
from sefa_edge.edge.cameras.v4l2.discovery import find_device, parse_word, usb_port_of
from sefa_edge.edge.cameras.v4l2.modes import Mode
from sefa_edge.edge.cameras.v4l2.negotiation import USUAL_SIZE, check_given, choose_mode, profile_mode
from sefa_edge.profiles.camera_profile import CameraProfile, load_camera_profile


@dataclass(frozen=True, slots=True)
class Negotiated:
    """An open device and the mode that it set. `note`: a message about what the driver changed."""

    device: Device
    mode: Mode
    profile: CameraProfile | None
    note: str | None


def negotiate(request: CameraRequest) -> Negotiated:
    """Open the device that the request names and set format, size and rate; the stream is not started.

    Raises:
        MissingError: no such device, or it is in use.
        InputError: it cannot do what its profile says, or its format cannot be decoded.
    """
    word = parse_word(request.address.target)
    profile = None if word.profile is None else load_camera_profile(word.profile)
    path = find_device(word.device)
    port = usb_port_of(path)
    device = Device(path)
    try:
        offered = device.modes(USUAL_SIZE)
        if profile is not None:
            wanted = profile_mode(offered, profile)
        else:
            wanted = choose_mode(offered, request.rate_hz, None if port is None else port.mbit_s)
        given = device.set_mode(wanted)
        return Negotiated(device, given, profile, check_given(wanted, given, profile))
    except BaseException:
        device.close()
        raise


def note_of(request: CameraRequest) -> str | None:
    """A message about what the driver changes of the requested mode; the camera is closed again.

    Raises:
        MissingError, InputError: as `negotiate`.
    """
    found = negotiate(request)
    found.device.close()
    return found.note
