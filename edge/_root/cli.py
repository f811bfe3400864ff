"""The command `sefa-edge`: names subcommands as strings and imports only the chosen one."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from sefa_edge import __version__
from sefa_edge.profiles.errors import SefaError

COMMANDS = {
    "run": ("sefa_edge.edge.run", "run a policy on an arm, simulated or real"),
    "sim": ("sefa_edge.firmware_bridge.simulation.command", "start the simulated SO-101 world on its own"),
    "record": ("sefa_edge.edge.record", "record demonstrations of a scripted expert as a LeRobot v3 dataset"),
    "train": ("sefa_edge.models.command", "train a SeFA policy: base flow, pairs, one-step student"),
    "export": ("sefa_edge.export.command", "turn a checkpoint into an ONNX engine with its policy card"),
    "eval": ("sefa_edge.edge.evaluate", "measure an engine's success in the lock-step simulated world"),
    "profile": (
        "sefa_edge.edge.pipeline_profile",
        "measure the latency of every stage, as JSON and one page",
    ),
}
"""Each module offers `add_arguments(parser)` and `main(args) -> exit code`."""

EXIT_CODES = """\
exit codes:
  0  done
  1  the work ran and failed its own criterion
  2  wrong use or bad input
  3  a fault stopped the arm safely
  4  something that this machine lacks"""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Expected failures become one `error:` line and one `hint:` line, never a traceback."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _dispatch(arguments)
    except SefaError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sefa-edge",
        description="From a trained SeFA policy to a moving SO-100/SO-101 arm.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sefa-edge {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if word in COMMANDS), None)
    module = None
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            module = _import(path)
            module.add_arguments(command)
    parsed = parser.parse_args(arguments)
    assert module is not None
    return int(module.main(parsed))


def _import(path: str):
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sefa_edge"):
            raise
        from sefa_edge.profiles.errors import MissingError

        extra = {
            "torch": "train",
            "onnx": "train",
            "safetensors": "train",
            "mujoco": "sim",
            "pyarrow": "dataset",
            "av": "dataset",
        }
        name = extra.get(error.name or "")
        hint = f"pip install 'sefa-edge[{name}]'" if name else f"pip install {error.name}"
        raise MissingError(f"this command needs the Python package '{error.name}'", hint) from None
