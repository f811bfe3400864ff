"""`sefa-edge cameras`: lists the connected V4L2 cameras, their names, formats and controls."""

from __future__ import annotations

import argparse

from sefa_edge.edge.cameras.v4l2.controls import keys_of
from sefa_edge.edge.cameras.v4l2.device import Device
from sefa_edge.edge.cameras.v4l2.discovery import find_device, names_of, usb_port_of, video_nodes
from sefa_edge.edge.cameras.v4l2.negotiation import DECODED, USUAL_SIZE, describe
from sefa_edge.profiles.camera_profile import shipped_cameras
from sefa_edge.profiles.errors import MissingError, SefaError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sefa-edge cameras`."""
    parser.add_argument(
        "device",
        nargs="?",
        metavar="DEVICE",
        help="/dev/video0, by-id/NAME or part of such a name; without it, all cameras are listed",
    )


def main(args: argparse.Namespace) -> int:
    """Print the list and return 0. Raises MissingError when there is no camera."""
    print("\n".join(_listed() if args.device is None else _described(find_device(args.device))))
    return 0


def _listed() -> list[str]:
    lines: list[str] = []
    for path in video_nodes():
        try:
            device = Device(path)
        except SefaError:
            continue  # a metadata node, a codec, or a device without permission
        device.close()
        port = usb_port_of(path)
        where = "not on USB" if port is None else f"USB {port.device}, {port.mbit_s} Mbit/s"
        names = " ".join(names_of(path)) or "no udev name"
        lines.append(f"{path}  {device.card} ({device.driver}, {where})  {names}")
    if not lines:
        raise MissingError("no V4L2 camera found", "plug one in; in a container, pass /dev/video0 through")
    return lines


def _described(path: str) -> list[str]:
    device = Device(path)
    try:
        modes = [mode for mode in device.modes(USUAL_SIZE) if mode.fourcc in DECODED]
        controls = device.controls()
    finally:
        device.close()
    keys = [f"{key}: {controls[number]}" for key, number in keys_of().items() if number in controls]
    return [
        f"{device.card} ({device.driver})",
        *describe(modes),
        "controls that a camera profile can lock:",
        *(f"  {key}" for key in keys),
        f"camera profiles: {', '.join(shipped_cameras())}, or a .yaml file; use one with --camera v4l2:DEVICE@PROFILE",
    ]
