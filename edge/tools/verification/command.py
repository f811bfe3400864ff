"""`sefa-edge verify A B`: compares the actions and the speed of two engines on held-out demonstrations."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import numpy as np

from sefa_edge.edge.engines.engine import EngineOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.pictures import decode_picture, write_picture
from sefa_edge.edge.tools.verification.comparison import (
    check_cards_agree,
    compare,
    held_out_recordings,
    time_in_turn,
)
from sefa_edge.edge.tools.verification.pictures import Disagreement, draw_disagreement
from sefa_edge.profiles.action_error import ActionError, action_error, error_table, why_unproven
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.card_check import World, arm_of, check_card
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import check_report_argument, output_folder, path_argument, write_report
from sefa_edge.profiles.percentiles import percentiles
from sefa_edge.profiles.quantities import SEED, THREADS, Real, Whole
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.recording.recordings import Recordings
from sefa_edge.profiles.recording.windows import Choice
from sefa_edge.profiles.units import ns_to_ms
from sefa_edge.profiles.verification import VerificationReport, VerifiedEngine, report_text

SAMPLES = Whole("a number of samples", 1, 10_000)
BUDGET_DEG = Real("a difference", 0.0, 360.0, above_lowest=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", type=path_argument, metavar="A", help="reference engine, usually fp32")
    parser.add_argument("candidate", type=path_argument, metavar="B", help="engine to check against it")
    parser.add_argument(
        "--dataset", type=path_argument, required=True, help="LeRobot v3 dataset; the held-out quarter is used"
    )
    parser.add_argument(
        "--samples", type=SAMPLES.parse, default=128, help="number of observations, spread over the held-out episodes"
    )
    parser.add_argument(
        "--seed", type=SEED.parse, default=0, help="seed of the noise and of the choice of held-out episodes"
    )
    parser.add_argument("--arm", help="arm profile that gives ticks and budget (default: the one on B's card)")
    parser.add_argument(
        "--budget-p99-deg",
        type=BUDGET_DEG.parse,
        metavar="X",
        help="exit with 1 when the 99th percentile exceeds this (default: the arm profile's budget)",
    )
    parser.add_argument(
        "--allow-unproven",
        action="store_true",
        help="exit with 0 even if the comparison could not have failed, as of a file with itself; the report says so",
    )
    parser.add_argument(
        "--worst-pictures", type=path_argument, metavar="DIR", help="draw the frames that differ most into this folder"
    )
    parser.add_argument("--threads", type=THREADS.parse, default=1, help="CPU threads of each engine")
    parser.add_argument("--json", metavar="F", help="write the report as JSON to F; - means standard output")


def main(arguments: argparse.Namespace) -> int:
    _check_outputs(arguments)
    with contextlib.nullcontext() if arguments.worst_pictures is None else output_folder(arguments.worst_pictures):
        return _verify(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    cards = load_card(arguments.reference), load_card(arguments.candidate)
    check_cards_agree(*cards)
    arm = arm_of(cards[1]) if arguments.arm is None else load_arm_profile(arguments.arm)
    check_card(cards[1], World(arm, arm.control_rate_hz))
    choice = Choice("held_out", arguments.samples, arguments.seed)
    options = EngineOptions(threads=arguments.threads)
    with (
        contextlib.closing(open_engine(arguments.reference, options)) as reference,
        contextlib.closing(open_engine(arguments.candidate, options)) as candidate,
    ):
        recordings = held_out_recordings(open_dataset(arguments.dataset), cards[1], choice)
        chunks = compare(recordings, reference, candidate)
        error = action_error(*chunks, arm.joints)
        durations_ns = time_in_turn(recordings, reference, candidate)
    if arguments.worst_pictures:
        draw_worst(arguments.worst_pictures, (recordings, cards[1]), chunks, error)
    paths = arguments.reference, arguments.candidate
    engines = [_described(*engine) for engine in zip(paths, cards, durations_ns, strict=True)]
    budget_deg = arguments.budget_p99_deg or arm.action_error_budget.p99_deg(cards[1].precision)
    reason = _why_unproven(engines, chunks[0], budget_deg)
    report = _report(arguments, recordings, engines, (error, budget_deg, reason))
    write_report(arguments.json, report_text(report))
    if arguments.json != "-":
        print(text_of(report))
    within = report.error.overall.p99 <= report.budget_p99_deg
    return ExitCode.DONE if report.passed or (within and arguments.allow_unproven) else ExitCode.FAILED


def _why_unproven(engines: list[VerifiedEngine], reference: np.ndarray, budget_deg: float) -> str | None:
    """Why the two could not have differed by more than the budget; None when they could."""
    if engines[0].sha256 == engines[1].sha256:
        return "both are the same file"
    return why_unproven(reference, budget_deg)


def _check_outputs(arguments: argparse.Namespace) -> None:
    check_report_argument(arguments.json)


def _described(path: Path, card: PolicyCard, durations_ns: np.ndarray) -> VerifiedEngine:
    spread = percentiles(durations_ns)
    return VerifiedEngine(
        file=path.name,
        sha256=card.engine_sha256,
        format=card.format,
        precision=card.precision,
        calls=spread.count,
        p50_ns=spread.p50_ns,
        p99_ns=spread.p99_ns,
    )


def _report(
    arguments: argparse.Namespace,
    recordings: Recordings,
    engines: list[VerifiedEngine],
    judged: tuple[ActionError, float, str | None],
) -> VerificationReport:
    """`judged`: the error, its budget, and why it proves nothing."""
    reference, candidate = engines
    error, budget_deg, reason = judged
    dataset, frames = recordings.dataset, recordings.frames
    return VerificationReport(
        schema_version=1 if reason is None else 2,
        reference=reference,
        candidate=candidate,
        latency_ratio_p50=candidate.p50_ns / reference.p50_ns,
        latency_ratio_p99=candidate.p99_ns / reference.p99_ns,
        threads=arguments.threads,
        dataset=str(dataset.folder),
        dataset_sha256=dataset.fingerprint(),
        episodes=len(np.unique(dataset.episode[frames])),
        frames=frames.tolist(),
        seed=recordings.seed,
        error=error,
        budget_p99_deg=budget_deg,
        passed=error.overall.p99 <= budget_deg and reason is None,
        unproven=reason,
    )


def text_of(report: VerificationReport) -> str:
    """The report as text."""
    lines = [error_table(report.error), ""]
    for role, engine in (("reference", report.reference), ("candidate", report.candidate)):
        lines.append(
            f"{role}: {engine.file} ({engine.format}, {engine.precision}), {engine.calls} calls: "
            f"p50 {ns_to_ms(engine.p50_ns):.3f} ms, p99 {ns_to_ms(engine.p99_ns):.3f} ms"
        )
    lines.append(f"candidate / reference: {report.latency_ratio_p50:.3f} at p50, {report.latency_ratio_p99:.3f} at p99")
    verdict = "within" if report.error.overall.p99 <= report.budget_p99_deg else "OVER"
    lines.append(
        f"{report.error.samples} samples of {report.episodes} held-out episode(s): p99 {report.error.overall.p99:.4g}, "
        f"{verdict} the budget of {report.budget_p99_deg:g}"
    )
    if report.unproven is not None:
        lines.append(f"PROVES NOTHING: {report.unproven} (--allow-unproven exits with 0 anyway)")
    return "\n".join(lines)


def draw_worst(
    folder: Path,
    seen: tuple[Recordings, PolicyCard],
    chunks: tuple[np.ndarray, np.ndarray],
    error: ActionError,
) -> None:
    """Draw the samples that differ most as `worst-1-….png` and so on, the worst first."""
    recordings, card = seen
    dataset = recordings.dataset
    for rank, index in enumerate(error.worst_samples, start=1):
        frame = int(recordings.frames[index])
        episode, step = int(dataset.episode[frame]), frame - int(dataset.episode_start[frame])
        of_reference, of_candidate = (of_engine[index] for of_engine in chunks)
        sample = Disagreement(
            title=f"#{rank}: episode {episode}, frame {step}",
            images={c.name: dataset.pictures(c.name, np.array([frame]), decode_picture)[0] for c in card.cameras},
            reference=of_reference,
            candidate=of_candidate,
            joints=tuple(card.joints),
        )
        write_picture(folder / f"worst-{rank}-episode-{episode}-frame-{step}.png", draw_disagreement(sample))
