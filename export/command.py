"""`sefa-edge export`: from a checkpoint to tested ONNX files in the given precision, each with its policy card."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx

from sefa_edge.export.closed_loop import CannotEvaluate, evaluate_both
from sefa_edge.export.flavours import FILES, Flavour, Int8Result, Precision, float_flavours, int8_flavours
from sefa_edge.export.gate import (
    Trial,
    measure,
    require_passed,
    torch_chunks,
    unproven,
    with_allowance,
    with_closed_loop,
)
from sefa_edge.export.graph.inference_network import GraphForm
from sefa_edge.export.graph.parts import write_parts
from sefa_edge.export.graph.to_onnx import example_inputs, policy_graph
from sefa_edge.export.policy_card import CardFacts, make_card
from sefa_edge.export.report import ExportReport, FlavourReport, flavour_report, layer_reports, report_text
from sefa_edge.export.report_page import save_page
from sefa_edge.export.rules import require_buildable
from sefa_edge.export.samples import SampleSets, as_inputs, open_samples
from sefa_edge.export.session import Inputs
from sefa_edge.export.worst_frames import draw_worst_frames
from sefa_edge.models.checkpoint import CheckpointInfo, load_checkpoint
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import ClosedLoop, GateResult, card_path, save_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import output_folder, path_argument, write_atomic
from sefa_edge.profiles.quantities import SEED, STEPS, Whole, seed_range
from sefa_edge.profiles.recording.fitness import check_moves, unit_notes
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM

BASE_CALLS = 10
SAMPLES = Whole("a number of samples", 16, 10_000)
CALLS = Whole("a number of calls", 1, 100)
RANDOM_SAMPLES = 64
AUTO_SEEDS = "0:40"
"""Seeds evaluated by default: 30 seconds on two cores. A result to publish needs 200."""
REPORT, PAGE = "report.json", "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=path_argument, help="folder with model.safetensors and checkpoint.json")
    parser.add_argument(
        "-o", "--output", type=path_argument, required=True, metavar="DIR", help="folder for engines and cards"
    )
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="precision of model.onnx")
    parser.add_argument(
        "--calibration",
        type=path_argument,
        metavar="DATASET",
        help="demonstrations for INT8 calibration and for testing: a LeRobot v3 dataset of three episodes or more",
    )
    parser.add_argument(
        "--samples", type=SAMPLES.parse, default=256, help="number of observations for calibration, and for testing"
    )
    parser.add_argument(
        "--method",
        choices=("minmax", "percentile", "entropy"),
        default="minmax",
        help="how INT8 ranges are chosen; minmax keeps outliers, on which small policies depend",
    )
    parser.add_argument(
        "--closed-loop",
        type=closed_loop_seeds,
        default="auto",
        metavar="A:B",
        help=f"seeds to evaluate in the simulated world, none, or auto: {AUTO_SEEDS} if --precision is not fp32 "
        "and the simulated world has the task (default: auto)",
    )
    parser.add_argument("--allow-worse", action="store_true", help="keep files that fail the gate; the card says so")
    parser.add_argument(
        "--allow-unproven",
        action="store_true",
        help="keep files whose closed loop proves nothing, for example because fp32 never succeeds; the card says so",
    )
    parser.add_argument("--seed", type=SEED.parse, default=0, help="seed of the noise and of the choice of episodes")
    parser.add_argument(
        "--network-calls",
        type=CALLS.parse,
        help="Euler steps inside the engine (default: 1 for a student, 10 for a base flow)",
    )
    parser.add_argument("--execute-steps", type=STEPS.parse, default=8, help="steps of each chunk to execute")
    parser.add_argument("--arm", default=SIMULATED_ARM, help="arm profile whose joints the policy moves")
    parser.add_argument(
        "--parts", action="store_true", help="also write encoder.onnx and velocity.onnx, for a host loop"
    )
    for field, choices in (
        ("film", ("fused", "separate")),
        ("conv1d", ("conv2d", "conv1d")),
        ("group-norm", ("instance", "reduce")),
    ):
        parser.add_argument(
            f"--{field}", choices=choices, default=choices[0], help="form of the graph; does not change results"
        )


def closed_loop_seeds(text: str) -> str:
    """Argparse type for `auto`, `none`, or seeds A:B. Raises ArgumentTypeError."""
    if text not in ("auto", "none"):
        seed_range(text)
    return text


def main(arguments: argparse.Namespace) -> int:
    export = Export(arguments)
    with ExitStack() as stack:
        stack.enter_context(output_folder(arguments.output))
        staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=arguments.output))
        stack.callback(shutil.rmtree, staged, ignore_errors=True)
        report = export.run(staged)
        for name in (REPORT, PAGE):
            (staged / name).replace(arguments.output / name)
        print(report_text(report))
        export.require_passed()
        publish(staged, arguments.output)
    print(f"report: {arguments.output / PAGE}")
    return 0


def publish(staged: Path, output: Path) -> None:
    """Move everything into place, cards last: an engine without its card is refused everywhere.

    Files of an earlier export are removed: files of two calibrations in one folder would be treated as one export.
    """
    for name in FILES:
        for stale in (output / name, card_path(output / name)):
            stale.unlink(missing_ok=True)
    for path in sorted(staged.iterdir(), key=lambda path: path.suffix == ".json"):
        target = output / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)


class Export:
    """One export, from the checkpoint to files in a staging folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._policy, self._info = load_checkpoint(arguments.checkpoint)
        usual_calls = BASE_CALLS if self._info.stage == "base" else 1
        self._calls = usual_calls if arguments.network_calls is None else arguments.network_calls
        self._check_options()
        self._arm = load_arm_profile(arguments.arm)
        trained = self._info.trained_min_deg, self._info.trained_max_deg
        check_moves(self._info.joint_names, *trained, self._arm)
        self._sets = open_calibration(arguments, self._info)
        self._form = GraphForm(arguments.film, arguments.conv1d, arguments.group_norm)
        self._notes = unit_notes(*trained, self._arm)
        self._judged: list[tuple[Flavour, GateResult]] = []
        self._started_s = time.monotonic()

    def run(self, staged: Path) -> ExportReport:
        """Create, test and write everything; `require_passed` then checks the result of the gate."""
        single = policy_graph(self._policy, self._calls, self._form)
        flavours, int8 = self._flavours(single)
        trial = self._trial()
        errors = {}
        for flavour in flavours:
            require_buildable(flavour)
            gate, errors[flavour.file] = measure(flavour, trial)
            self._judged.append((flavour, gate))
            write_atomic(staged / flavour.file, flavour.model.SerializeToString())
        self._write_cards(staged)
        closed_loop = self._evaluate(staged)
        allowed = {name: getattr(self._arguments, name) for name in ("allow_worse", "allow_unproven")}
        self._judged = [(flavour, with_allowance(gate, **allowed)) for flavour, gate in self._judged]
        self._write_cards(staged)
        if self._arguments.parts:
            write_parts(self._policy, self._info.weights_sha256, staged)
        reports = [flavour_report(f, gate, errors[f.file], single.ByteSize()) for f, gate in self._judged]
        report = self._report(reports, int8, closed_loop)
        self._draw(report, staged)
        return report

    def require_passed(self) -> None:
        """Raises GateError for the first file that failed, unless that was allowed."""
        for flavour, gate in self._judged:
            if not gate.overridden:
                require_passed(flavour, gate)

    def _check_options(self) -> None:
        arguments, horizon = self._arguments, self._policy.config.horizon
        if arguments.execute_steps > horizon:
            raise InputError(f"--execute-steps {arguments.execute_steps}: a chunk of this policy has {horizon} steps")
        if arguments.precision == "int8" and arguments.calibration is None:
            raise InputError(
                "INT8 needs demonstrations for calibration: --calibration DATASET",
                "any LeRobot v3 dataset of this arm and these cameras; `sefa-edge record` makes one in simulation",
            )

    def _flavours(self, single: onnx.ModelProto) -> tuple[list[Flavour], Int8Result | None]:
        precision: Precision = self._arguments.precision
        flavours = float_flavours(single, precision)
        if precision != "int8":
            return flavours, None
        assert self._sets is not None
        budget_deg = self._arm.action_error_budget.int8_p99_deg
        result = int8_flavours(single, self._sets, self._arguments.method, budget_deg)
        return [*result.flavours, *flavours], result

    def _trial(self) -> Trial:
        samples = random_samples(self._policy) if self._sets is None else as_inputs(self._sets.held_out)
        reference = torch_chunks(self._policy, self._calls, samples)
        return Trial(self._arm, samples, reference, None if self._sets is None else self._sets.dataset_sha256)

    def _write_cards(self, staged: Path) -> None:
        facts = CardFacts(self._arguments.arm, self._arm, self._calls, self._arguments.execute_steps)
        for flavour, gate in self._judged:
            engine = staged / flavour.file
            save_card(make_card(self._info, facts, flavour, (engine, gate)), engine)

    def _evaluate(self, staged: Path) -> ClosedLoop | None:
        """Evaluate `model.onnx` and the float32 file in the simulated world, and add the result to the gate."""
        asked, (flavour, gate) = self._arguments.closed_loop, self._judged[0]
        if asked == "none" or self._arguments.precision == "fp32":
            return None
        reference = next(f for f, _ in self._judged if f.precision == "fp32")
        seeds = AUTO_SEEDS if asked == "auto" else asked
        print(f"evaluating seeds {seeds} with fp32 and {flavour.precision}", file=sys.stderr)
        try:
            closed_loop, lost = evaluate_both(staged / reference.file, staged / flavour.file, seeds)
        except CannotEvaluate as reason:
            if asked != "auto":
                raise InputError(f"the closed loop cannot be evaluated: {reason}", "--closed-loop none") from None
            self._judged[0] = (flavour, unproven(gate, f"not evaluated: {reason}"))
            return None
        self._judged[0] = (flavour, with_closed_loop(gate, closed_loop, lost, self._arm))
        return closed_loop

    def _report(
        self, flavours: list[FlavourReport], int8: Int8Result | None, closed_loop: ClosedLoop | None
    ) -> ExportReport:
        arguments = self._arguments
        return ExportReport(
            checkpoint=str(arguments.checkpoint),
            task=self._info.task,
            stage=self._info.stage,
            network_calls=self._calls,
            graph_form={"film": self._form.film, "conv1d": self._form.conv1d, "group_norm": self._form.group_norm},
            dataset=None if arguments.calibration is None else str(arguments.calibration),
            date_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._started_s, 1),
            flavours=flavours,
            layers=[] if int8 is None else layer_reports(int8),
            calibration=None if int8 is None else int8.calibration,
            closed_loop=closed_loop,
            notes=self._notes,
        )

    def _draw(self, report: ExportReport, staged: Path) -> None:
        pictures: list[Path] = []
        if self._arguments.calibration is not None and self._arguments.precision != "fp32":
            pictures = draw_worst_frames(staged, self._arguments)
        write_atomic(staged / REPORT, report.model_dump_json(indent=1).encode() + b"\n")
        save_page(report, pictures, staged / PAGE)


def open_calibration(arguments: argparse.Namespace, info: CheckpointInfo) -> SampleSets | None:
    """The demonstrations, if given. Raises InputError if they do not have the inputs of the policy."""
    if arguments.calibration is None:
        return None
    return open_samples(arguments.calibration, info, arguments.samples, arguments.seed)


def random_samples(policy: FlowPolicy) -> list[Inputs]:
    """Random observations, which are enough to detect a wrong graph."""
    return [
        {name: np.asarray(tensor.numpy()) for name, tensor in example_inputs(policy.config, seed).items()}
        for seed in range(RANDOM_SAMPLES)
    ]
