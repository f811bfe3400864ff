"""`sefa-edge sim`: the simulated world on its own, for any program that can drive a real arm."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sefa_edge.firmware_bridge.simulation.client import WorldPaths
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import path_argument
from sefa_edge.profiles.quantities import SEED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sefa-edge sim`."""
    parser.add_argument("--task", default="lift", metavar="T", help="lift or place")
    parser.add_argument("--seed", type=SEED.parse, default=0, metavar="N", help="seed of the cube's position")
    parser.add_argument(
        "--disturb",
        default="",
        metavar="WHAT",
        help="disturbances on the servos' wire, for example dropped=0.01,bit_errors=1e-5",
    )
    parser.add_argument(
        "--wire-log",
        type=path_argument,
        metavar="FILE",
        help="record the bytes on the servos' wire and the motion of the joints",
    )
    parser.add_argument(
        "--link", type=path_argument, metavar="PATH", help="the arm's serial port (default: in a new folder)"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, SIGTERM or a client's `quit`. Raises MissingError without MuJoCo or OpenGL."""
    disturbances = Disturbances.from_text(args.disturb) if args.disturb else Disturbances()
    from sefa_edge.firmware_bridge.simulation.scene import Renderer
    from sefa_edge.firmware_bridge.simulation.server import WorldPlan, run_server

    Renderer(16, 16).close()  # without OpenGL there are no camera images: fail now
    with _folder_of(args.link) as paths:
        plan = WorldPlan(args.task, args.seed, disturbances, args.wire_log)
        run_server(plan, paths, on_ready=lambda: _say_how_to_attach(paths))
    print("simulated world ended", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _folder_of(link: Path | None) -> Iterator[WorldPaths]:
    if link is None:
        with tempfile.TemporaryDirectory(prefix="sefa-edge-sim-") as folder:
            yield WorldPaths(Path(folder) / "arm")
    elif not link.absolute().parent.is_dir():
        raise InputError(f"the folder of {link} does not exist", "create it first")
    else:
        yield WorldPaths(link.absolute())


def _say_how_to_attach(paths: WorldPaths) -> None:
    print(
        f"simulated SO-101 on {paths.port}, six STS3215 servos at 1000000 baud, torque off\n"
        f"  run a policy on it:   sefa-edge run --arm sim --port {paths.port} --engine E\n"
        f"  its camera:           --camera sim:{paths.state}\n"
        f"  any other program:    open {paths.port} as the serial port of an SO-101\n"
        f"Ctrl-C ends it",
        flush=True,
    )
