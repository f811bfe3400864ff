"""Settings of a V4L2 camera: `profiles/cameras/*.yaml` or a user's file. Other settings are not changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.quantities import Real, Whole
from sefa_edge.profiles.shipped import load_named, shipped_names
from sefa_edge.profiles.strict import StrictModel

Auto = Literal["auto"]
Natural = Annotated[int, Whole("a value", 0, 1_000_000)]
FOURCC = {"mjpg": "MJPG", "yuyv": "YUYV"}


class CameraProfile(StrictModel):
    """Format, size and rate of the frames, and the controls to set: a number, or `auto`.

    Automatic exposure or white balance changes the colours between demonstration and run, and during a run.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(max_length=64, pattern=r"^[\w .-]+$")]
    format: Literal["mjpg", "yuyv"]
    width: Annotated[int, Whole("a size", 16, 8192, "pixels")]
    height: Annotated[int, Whole("a size", 16, 8192, "pixels")]
    rate_hz: Annotated[float, Real("a rate", 1.0, 240.0, "Hz")]
    exposure_100us: Auto | Natural | None = None
    """Exposure time in units of 0.1 ms, as UVC counts it."""
    keep_rate_in_the_dark: bool | None = None
    """False: automatic exposure may lengthen the frame (`exposure_dynamic_framerate`), which halves the rate."""
    gain: Auto | Natural | None = None
    white_balance_k: Auto | Natural | None = None
    """Colour temperature in kelvin."""
    focus: Auto | Natural | None = None
    """In the driver's own units."""
    power_line_hz: Literal["off", 50, 60] | None = None
    """Flicker frequency of lamps, which automatic exposure then avoids."""

    @property
    def fourcc(self) -> str:
        return FOURCC[self.format]


def shipped_cameras() -> list[str]:
    """Names of the camera profiles that come with the package."""
    return shipped_names("cameras")


def load_camera_profile(name_or_path: str) -> CameraProfile:
    """A camera profile, shipped (`usb_640x480`) or a user's file (`my_camera.yaml`).

    Raises:
        InputError: unknown name, or a file that does not hold a valid profile.
    """
    profile = load_named(name_or_path, "cameras", CameraProfile)
    if profile is None:
        raise InputError(
            f"no camera profile is called '{name_or_path}'",
            f"known profiles: {', '.join(shipped_cameras())}; or give a .yaml file",
        )
    return profile
