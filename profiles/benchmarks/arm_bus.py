"""Cost of a cycle on the servo bus, compared with other clients. A program to run, not a module to import:

    pip install --no-deps --target out/bus_clients rustypot==1.13.1 feetech-servo-sdk==1.0.0
    pip install --no-deps --target out/lerobot lerobot==0.4.4 draccus mergedeep pyyaml-include typing-inspect \
mypy-extensions toml
    python profiles/benchmarks/arm_bus.py --clients out/bus_clients --lerobot out/lerobot --json out/arm_bus.json

The clients take turns. Each runs against the same simulated servos, which run in a separate process behind a
pseudo-terminal and answer no sooner than bytes at 1 Mbit/s allow. Each client reads registers 56..70 of six servos and
writes 41..47 as fast as the bus permits: the same 196 bytes for all (arm_bus_client.py describes how each decodes
them). A cycle cannot be shorter than their time on the wire. CPU time is that of the client's process: user and system,
all threads.

`rustypot` is compiled and returns bytes. `rustypot-units` converts them to units, as a control loop needs, and our
cycle is compared with its cycle; the cycle with bytes only is printed too. LeRobot and `scservo_sdk` poll while they
wait. All wait for the same wire, so cycles differ only by what a client does between a reply and its next write. The
simulated servos are slower on a busy machine: run this on an idle one.

Exit code 1: a target is missed. 4: a client is not installed; `--only` leaves others out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from program import keep, run_program

from sefa_edge.edge.tools.bench_loop.servos import simulated_servos
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    encode_sync_read,
    encode_sync_write,
    reply_bytes,
    wire_time_ns,
)
from sefa_edge.firmware_bridge.host.feetech.registers import COMMAND_BLOCK, STATE_BLOCK
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import FaultError, InputError, MissingError
from sefa_edge.profiles.percentiles import percentiles
from sefa_edge.profiles.quantities import COUNT
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import NS_PER_US

FOLDER = Path(__file__).resolve().parent
OURS, RUSTYPOT, RUSTYPOT_BYTES, SDK, LEROBOT = "sefa-edge", "rustypot-units", "rustypot", "scservo_sdk", "lerobot"
CLIENTS = (OURS, RUSTYPOT, RUSTYPOT_BYTES, SDK, LEROBOT)
TO_WIRE = 1.15
"""Target: our cycle, median, to the time of its bytes on the wire."""

FIFTH = 0.2
"""Target: our processor time per cycle to that of `scservo_sdk` and of LeRobot."""

NOT_SLOWER = 1.0
"""Target: our cycle, median, to that of rustypot with units. Its processor time is printed, without a target."""

CLOCK_NOISE = 0.02
"""Difference between two runs of one client on an idle machine; a target exceeded by less is not missed."""

END_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The measurements of one client in one turn."""

    client: str
    cycle_p50_ns: float
    cycle_p99_ns: float
    cpu_ns: float
    """Per cycle."""
    missed: int
    """Cycles in which a servo did not answer in time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of ours to another value, and its limit."""

    name: str
    ratio: float
    most: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.most * (1 + CLOCK_NOISE)


def main(arguments: Sequence[str]) -> int:
    args = _parse(arguments)
    clients = args.only or list(CLIENTS)
    turns: list[Turn] = []
    for number in range(args.rounds):
        for client in clients:
            print(f"round {number + 1} of {args.rounds}: {client}", file=sys.stderr, flush=True)
            turns.append(_run(client, args.cycles, args.lerobot if client == LEROBOT else None, args.clients))
    wire_ns = _cycle_on_the_wire_ns()
    summary = {client: _summary(turns, client) for client in clients}
    targets = list(_targets(summary, wire_ns))
    print("\n".join(_table(summary, targets, wire_ns)), file=sys.stderr if str(args.json) == "-" else sys.stdout)
    keep(args.json, _content(turns, summary, targets, wire_ns))
    return 0 if all(target.met for target in targets) else 1


def _run(client: str, cycles: int, lerobot: Path | None, clients: Path | None) -> Turn:
    folders = [str(folder) for folder in (lerobot, clients) if folder is not None]
    with tempfile.TemporaryDirectory() as folder, simulated_servos(SIMULATED_ARM, frozenset()) as port:
        report = Path(folder) / "client.json"
        command = [sys.executable, str(FOLDER / "arm_bus_client.py"), "--client", client, "--port", str(port)]
        command += ["--cycles", str(cycles), "--json", str(report)]
        command += [word for folder in folders for word in ("--libraries", folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=END_TIMEOUT_S, check=False)
        if done.returncode == MissingError.exit_code:
            message = done.stderr.partition("error: ")[2].splitlines()[0]
            raise MissingError(message, "the top of profiles/benchmarks/arm_bus.py says how; or leave it out: --only")
        if done.returncode != 0:
            raise FaultError(f"the client {client} ended with {done.returncode}", done.stderr[-400:])
        content = json.loads(report.read_text())
    durations_ns = np.array(content["durations_ns"], np.int64)
    spread = percentiles(durations_ns)
    return Turn(client, spread.p50_ns, spread.p99_ns, content["cpu_ns"] / len(durations_ns), content["missed"])


def _cycle_on_the_wire_ns() -> int:
    profile = load_arm_profile(SIMULATED_ARM)
    servo_ids = [joint.servo_id for joint in profile.joints]
    read = encode_sync_read(servo_ids, STATE_BLOCK.address, STATE_BLOCK.count)
    write = encode_sync_write(COMMAND_BLOCK.address, [(i, bytes(COMMAND_BLOCK.count)) for i in servo_ids])
    replies = len(servo_ids) * reply_bytes(STATE_BLOCK.count)
    return wire_time_ns(len(read) + replies + len(write), profile.feetech.baud)


def _summary(turns: Sequence[Turn], client: str) -> Turn:
    """The medians of a client's turns, and the sum of its missed cycles."""
    of_client = [turn for turn in turns if turn.client == client]
    return Turn(
        client,
        median(turn.cycle_p50_ns for turn in of_client),
        median(turn.cycle_p99_ns for turn in of_client),
        median(turn.cpu_ns for turn in of_client),
        sum(turn.missed for turn in of_client),
    )


def _targets(summary: Mapping[str, Turn], wire_ns: int) -> Iterator[Target]:
    ours = summary[OURS]
    yield Target("cycle to the wire's time", ours.cycle_p50_ns / wire_ns, TO_WIRE)
    for client in (SDK, LEROBOT):
        if client in summary:
            yield Target(f"processor time to {client}", ours.cpu_ns / summary[client].cpu_ns, FIFTH)
    if RUSTYPOT in summary:
        yield Target(f"cycle to {RUSTYPOT}", ours.cycle_p50_ns / summary[RUSTYPOT].cycle_p50_ns, NOT_SLOWER)


def _table(summary: Mapping[str, Turn], targets: Sequence[Target], wire_ns: int) -> Iterator[str]:
    ours = summary[OURS]
    header = f"{'p50':>11}{'p99':>11}{'to wire':>9}{'cpu':>11}{'ours/its cycle':>16}{'ours/its cpu':>14}{'missed':>8}"
    yield f"{'per cycle':16}{header}"
    for client, turn in summary.items():
        cycle, cpu = ours.cycle_p50_ns / turn.cycle_p50_ns, ours.cpu_ns / turn.cpu_ns
        durations = "".join(f"{value / NS_PER_US:8.0f} us" for value in (turn.cycle_p50_ns, turn.cycle_p99_ns))
        cost = f"{turn.cycle_p50_ns / wire_ns:9.3f}{turn.cpu_ns / NS_PER_US:8.1f} us"
        yield f"{client:16}{durations}{cost}{cycle:16.3f}{cpu:14.3f}{turn.missed:8}"
    yield f"{'the wire alone':16}{wire_ns / NS_PER_US:8.0f} us"
    for target in targets:
        yield f"{'met' if target.met else 'MISSED':8}{target.name:40}{target.ratio:8.3f}, at most {target.most}"


def _content(
    turns: Sequence[Turn], summary: Mapping[str, Turn], targets: Sequence[Target], wire_ns: int
) -> dict[str, object]:
    return {
        "schema_version": 1,
        "wire_ns": wire_ns,
        "turns": [asdict(turn) for turn in turns],
        "clients": {client: asdict(turn) for client, turn in summary.items()},
        "targets": [asdict(target) | {"met": target.met} for target in targets],
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cost of a cycle on the servo bus, compared with other clients")
    parser.add_argument("--cycles", type=COUNT.parse, default=1500, metavar="N", help="per client and round")
    parser.add_argument("--rounds", type=COUNT.parse, default=5, metavar="N", help="turns of each client")
    parser.add_argument("--clients", type=Path, metavar="FOLDER", help="where rustypot and feetech-servo-sdk are")
    parser.add_argument("--lerobot", type=Path, metavar="FOLDER", help="where LeRobot 0.4.4 is")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, metavar="CLIENT", help=f"some of {', '.join(CLIENTS)}")
    parser.add_argument("--json", type=Path, metavar="F", help="also write everything as JSON")
    args = parser.parse_args(arguments)
    if args.cycles < 10 or args.rounds < 1:
        raise InputError("--cycles must be 10 or more, --rounds 1 or more")
    if args.only is not None and OURS not in args.only:
        raise InputError(f"--only must name {OURS} too", "everything is held against it")
    return args


if __name__ == "__main__":
    run_program(main)
