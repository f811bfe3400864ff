"""`sefa-edge replay`: recomputes a recorded run without hardware and compares it bit for bit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from sefa_edge.edge.engines.cache import processor_name
from sefa_edge.edge.engines.engine import EngineOptions
from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.recording.recorded_run import RecordedRun, open_run
from sefa_edge.edge.tools.replay.commands import replay_commands
from sefa_edge.edge.tools.replay.comparison import Comparison
from sefa_edge.edge.tools.replay.policy import replay_policy
from sefa_edge.profiles.card import load_card
from sefa_edge.profiles.card_check import World, check_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import check_report_argument, path_argument, write_report

PARTS = ("all", "policy", "commands")
SHOWN_GAPS = 5
THREADS = frozenset(map(str, range(1, 257)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=path_argument,
        metavar="RUN",
        help="a recording (.mcap), or a folder, whose newest recording is used",
    )
    parser.add_argument("--engine", type=engine_at, metavar="E", help="engine (default: the path in the recording)")
    parser.add_argument("--part", choices=PARTS, default="all", help="the part to recompute")
    parser.add_argument("--json", metavar="F", help="write the results as JSON to F; - means standard output")


def main(arguments: argparse.Namespace) -> int:
    """Returns exit code 1 when something differs, or nothing could be compared."""
    check_report_argument(arguments.json)
    run = open_run(arguments.run)
    results: dict[str, Comparison] = {}
    if arguments.part != "commands":
        results["chunks"] = _replay_policy(run, arguments.engine)
    if arguments.part != "policy":
        results["ticks"] = replay_commands(run)
    cut_short = run.truncation()
    same = all(comparison.same for comparison in results.values())
    same &= any(comparison.compared for comparison in results.values())
    if arguments.json != "-":
        print(f"{run.path}, recorded by `{run.metadata.get('command_line', 'sefa-edge run')}`")
        if cut_short:
            print(f"note: the recording is not complete: {cut_short}")
        for name, comparison in results.items():
            print(_text(name, comparison))
        if not same and (note := processor_note(run.metadata, processor_name())):
            print(note)
    report = {"recording": str(run.path), "cut_short": cut_short, "same": same}
    content = report | {name: asdict(comparison) for name, comparison in results.items()}
    write_report(arguments.json, json.dumps(content, indent=2) + "\n")
    return 0 if same else 1


def _replay_policy(run: RecordedRun, chosen: Path | None) -> Comparison:
    path = chosen or Path(run.metadata.get("engine", "model.onnx"))
    if not path.is_file():
        raise InputError(f"the engine {path} does not exist", "pass --engine E, or --part commands")
    threads = run.metadata.get("threads", "1")
    check_card(load_card(path), World(run.arm, run.control.control_rate_hz or run.arm.control_rate_hz))
    engine = open_engine(path, EngineOptions(threads=int(threads) if threads in THREADS else 1))
    try:
        if engine.card.engine_sha256 != run.card.engine_sha256:
            print(f"note: {path} is not the engine of the recording", file=sys.stderr)
        return replay_policy(run, engine)
    finally:
        engine.close()


def processor_note(metadata: Mapping[str, str], here: str) -> str:
    """A possible reason for differences; empty if recorded on this kind of processor, or on an unknown one."""
    there = metadata.get("processor", here)
    if there == here:
        return ""
    return (
        f"note: recorded on another kind of processor ({there}, this is {here}), where an engine rounds differently: "
        "its chunks may differ in their last digits"
    )


def _text(name: str, comparison: Comparison) -> str:
    lines = [f"{name:<8} {comparison.agreed} of {comparison.compared} agree bit for bit"]
    gaps = comparison.not_comparable
    lines += [f"         not comparable: {gap}" for gap in gaps[:SHOWN_GAPS]]
    if len(gaps) > SHOWN_GAPS:
        lines.append(f"         and {len(gaps) - SHOWN_GAPS} more")
    if comparison.first_difference:
        lines.append(f"         first difference: {comparison.first_difference}")
    return "\n".join(lines)
