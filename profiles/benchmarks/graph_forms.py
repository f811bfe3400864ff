"""Latency of the forms of an exported graph. A program to run, not a module to import:

    python profiles/benchmarks/graph_forms.py --checkpoint models/results/lift --json out/graph_forms.json

The rewrites of `sefa-edge export` (FiLM layers fused or separate, 1-D convolutions as 2-D ones or as they are, two
forms of GroupNorm) do not change the result, so latency decides. Without a checkpoint the paper's network is used, a
quarter as wide, with random weights. Also timed: Euler steps unrolled in one graph, and the same steps taken by the
host on the velocity network alone. All are run by ONNX Runtime on one thread, in turns of random order; the result is
the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import torch

from sefa_edge.export.graph.inference_network import GraphForm
from sefa_edge.export.graph.parts import CONDITION, write_parts
from sefa_edge.export.graph.to_onnx import JOINTS, NOISE, example_inputs, policy_graph
from sefa_edge.export.session import open_session
from sefa_edge.models.checkpoint import load_checkpoint
from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.policy import FlowPolicy
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.files import write_report
from sefa_edge.profiles.latency.environment import describe_environment
from sefa_edge.profiles.percentiles import Percentiles, percentiles
from sefa_edge.profiles.quantities import COUNT
from sefa_edge.profiles.units import ns_to_ms

Run = Callable[[], object]
PAPER = NetworkConfig(
    cameras=("front",), height=96, width=96, joints=6, n_obs_steps=2,
    vision="resnet18", velocity="unet1d", unet_channels=(128, 256, 512), time_features=128,
)  # fmt: skip
FORMS = [GraphForm(*form) for form in product(("fused", "separate"), ("conv2d", "conv1d"), ("instance", "reduce"))]
EULER_STEPS = (1, 4, 10)
WARM_UP_CALLS = 10


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's folder (default: the paper's network)")
    parser.add_argument("--calls", type=COUNT.parse, default=300)
    parser.add_argument("--json", metavar="F", help="write results here; - is standard output")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    policy = FlowPolicy(PAPER).eval() if options.checkpoint is None else load_checkpoint(options.checkpoint)[0]
    subjects = {**form_subjects(policy), **step_subjects(policy)}
    measured = measure(subjects, options.calls)
    reference = next(iter(measured.values())).p50_ns
    for name, spread in measured.items():
        print(
            f"{name:48} p50 {ns_to_ms(spread.p50_ns):8.3f} ms  p99 {ns_to_ms(spread.p99_ns):8.3f} ms  "
            f"{spread.p50_ns / reference:6.3f} of the default form"
        )
    content = {
        "network": policy.config.model_dump(mode="json"),
        "latency": {name: asdict(spread) for name, spread in measured.items()},
        "environment": describe_environment().model_dump(mode="json"),
    }
    write_report(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def form_subjects(policy: FlowPolicy) -> dict[str, Run]:
    """One call of the network in every form that differs for it, the default form first."""
    forms = FORMS if policy.config.velocity == "unet1d" else [GraphForm(), GraphForm(film="separate")]
    runs = {}
    for form in forms:
        model = policy_graph(policy, 1, form)
        name = f"film {form.film}, {form.conv1d}, group norm {form.group_norm} ({len(model.graph.node)} nodes)"
        runs[name] = _runner(model, policy)
    return runs


def step_subjects(policy: FlowPolicy) -> dict[str, Run]:
    """Euler steps in the graph, and by the host on the parts."""
    runs: dict[str, Run] = {}
    for steps in EULER_STEPS:
        runs[f"{steps} step(s), unrolled"] = _runner(policy_graph(policy, steps, GraphForm()), policy)
    with tempfile.TemporaryDirectory() as folder:
        write_parts(policy, "0" * 64, Path(folder))
        parts = [onnx.load(Path(folder) / f"{name}.onnx") for name in ("encoder", "velocity")]
    for steps in EULER_STEPS:
        runs[f"{steps} step(s), by the host"] = _host_loop(parts, policy, steps)
    return runs


def _runner(model: onnx.ModelProto, policy: FlowPolicy) -> Run:
    session, inputs = open_session(model), _inputs(policy)
    return lambda: session.run(None, inputs)


def _host_loop(parts: Sequence[onnx.ModelProto], policy: FlowPolicy, steps: int) -> Run:
    encoder, velocity = (open_session(model) for model in parts)
    inputs = _inputs(policy)
    noise = inputs.pop(NOISE)
    assert JOINTS in inputs

    def run() -> np.ndarray:
        (condition,) = encoder.run(None, inputs)
        x = noise
        for step in range(steps):
            t = np.full(1, step / steps, np.float32)
            x = x + np.asarray(velocity.run(None, {"x": x, "t": t, CONDITION: condition})[0]) / np.float32(steps)
        return x

    return run


def _inputs(policy: FlowPolicy) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in example_inputs(policy.config, seed=0).items()}


def measure(subjects: Mapping[str, Run], calls: int) -> dict[str, Percentiles]:
    """All are called once per round, in a new random order."""
    rng, names = np.random.default_rng(0), list(subjects)
    durations_ns = {name: np.zeros(calls, np.int64) for name in names}
    for call in range(-WARM_UP_CALLS, calls):
        for name in rng.permutation(names):
            started_ns = time.perf_counter_ns()
            subjects[name]()
            if call >= 0:
                durations_ns[name][call] = time.perf_counter_ns() - started_ns
    return {name: percentiles(values) for name, values in durations_ns.items()}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SefaError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
