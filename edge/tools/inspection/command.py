"""`sefa-edge inspect`: shows a file's contents and which runtimes accept it. Reads only; needs no engine library."""

from __future__ import annotations

import argparse
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sefa_edge.edge.engines.engine import (
    HEADER_BYTES,
    ONNX_IR_VERSION_TAG,
    PLAN_MAGIC,
    RTX_PLAN_MAGIC,
    engine_kind,
)
from sefa_edge.edge.engines.plan_file import read_plan_header
from sefa_edge.edge.tools.inspection.card import CardState, card_of, state_of_card
from sefa_edge.edge.tools.inspection.checkpoint import read_checkpoint
from sefa_edge.edge.tools.inspection.onnx_graph import summarise
from sefa_edge.edge.tools.inspection.text import card_text, checkpoint_text, onnx_text, plan_text
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, path_argument, read_up_to, sha256_of, write_report
from sefa_edge.profiles.onnxfile.reader import load_onnx
from sefa_edge.profiles.onnxfile.targets import ALL_TARGETS, TARGETS
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES

FILES = "model.onnx, model.plan, a policy card (model.json) or the folder of a checkpoint"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of an inspection: as JSON values and as text."""

    machine: Mapping[str, object]
    text: str
    broken: int = 0
    """Number of broken rules of the selected targets."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the contents of an engine, a policy card or a checkpoint. An ONNX file is checked for every target that "
        "sefa-edge supports: nodes that the target would reject or silently compute incorrectly are listed by name. "
        "With --target, the exit code is 1 when a rule of that target is broken."
    )
    parser.add_argument("file", type=path_argument, metavar="FILE", help=FILES)
    parser.add_argument(
        "--target",
        choices=tuple(TARGETS),
        help="check an ONNX file for this target only; orin is JetPack 6.1 to 7.2 (TensorRT 10.3 and 10.16), "
        "JetPack 6.0 is tensorrt-8.6",
    )
    parser.add_argument("--json", metavar="F", help="write everything as JSON; - means standard output")


def main(args: argparse.Namespace) -> int:
    check_report_argument(args.json)
    inspection = inspect_path(args.file, args.target)
    write_report(args.json, json.dumps({"schema_version": 1, **inspection.machine}, indent=2) + "\n")
    if args.json != "-":
        print(inspection.text)
    return ExitCode.FAILED if args.target and inspection.broken else ExitCode.DONE


def inspect_path(path: Path, target: str | None = None) -> Inspection:
    """Inspect the file or folder at `path`.

    Raises:
        InputError: unknown kind of file, damaged, or a `target` for a file that is not ONNX.
    """
    kind = _kind(path)
    if kind == "onnx":
        return _inspect_onnx(path, target)
    if target is not None:
        raise InputError(f"--target is for ONNX files, but {path} is a {kind}", "remove --target")
    inspectors = {"card": _inspect_card, "checkpoint": _inspect_checkpoint}
    return inspectors.get(kind, _inspect_plan)(path)


def _kind(path: Path) -> str:
    """The kind of file by its contents; its name does not matter."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "checkpoint"
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is a device or a pipe, not a file", f"pass {FILES}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", f"pass {FILES}") from None
    head = read_up_to(path, HEADER_BYTES)
    if head.lstrip().startswith(b"{"):
        return "card"
    if head.startswith((PLAN_MAGIC, RTX_PLAN_MAGIC)):
        return "plan"
    if head[:1] == bytes([ONNX_IR_VERSION_TAG]):
        return "onnx"
    return engine_kind(path)  # raises an error that says what it seems to be


def _inspect_onnx(path: Path, target: str | None) -> Inspection:
    summary = summarise(load_onnx(path), TARGETS[target] if target else ALL_TARGETS)
    card = card_of(path)
    return Inspection(
        machine={**_file(path, "onnx"), "onnx": asdict(summary), "card": _plain_card(card)},
        text=onnx_text(path, summary, card),
        broken=sum(len(verdict.broken) for verdict in summary.verdicts),
    )


def _inspect_plan(path: Path) -> Inspection:
    header = read_plan_header(path)
    card = card_of(path)
    machine = {"library": PLAN_LIBRARIES[header.library].title, "library_version": ".".join(map(str, header.version))}
    return Inspection(
        machine={**_file(path, "plan"), "plan": machine, "card": _plain_card(card)},
        text=plan_text(path, str(header), card),
    )


def _inspect_card(path: Path) -> Inspection:
    state = state_of_card(path)
    return Inspection({**_file(path, "card"), "card": _plain_card(state)}, card_text(path, state))


def _inspect_checkpoint(folder: Path) -> Inspection:
    checkpoint = read_checkpoint(folder)
    weights: dict[str, object] = {"belongs": not checkpoint.problem, "problem": checkpoint.problem}
    machine = {"file": str(folder), "kind": "checkpoint", "weights": weights, "checkpoint": checkpoint.content}
    return Inspection(machine, checkpoint_text(folder, checkpoint.content, checkpoint.problem))


def _file(path: Path, kind: str) -> dict[str, object]:
    return {"file": str(path), "kind": kind, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _plain_card(state: CardState) -> dict[str, object]:
    card = None if state.card is None else state.card.model_dump(mode="json")
    return {"file": state.file, "belongs": state.belongs, "problem": state.problem, "card": card}
