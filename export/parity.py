"""Does the engine act as the network did? Differences in joint units, on the same noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from sefa_edge.export.to_onnx import example_inputs
from sefa_edge.models.policy import EnginePolicy, FlowPolicy
from sefa_edge.profiles.errors import SefaError

SAMPLES = 32
MAX_DIFFERENCE_DEG = 0.01


class ParityError(SefaError):
    """The engine computes something else than the network."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest and mean absolute difference over all joints, steps and samples, degrees."""

    max_deg: float
    mean_deg: float


def check_parity(policy: FlowPolicy, network_calls: int, engine: Path) -> Parity:
    """Compare the engine with the network on random inputs.

    Raises:
        ParityError: they differ by more than 0.01 degrees somewhere.
    """
    network = EnginePolicy(policy, network_calls).eval()
    session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
    differences = []
    for seed in range(SAMPLES):
        inputs = example_inputs(policy.config, seed)
        with torch.no_grad():
            expected = network(*inputs.values()).numpy()
        (actual,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        differences.append(np.abs(actual - expected))
    parity = Parity(float(np.max(differences)), float(np.mean(differences)))
    if not parity.max_deg <= MAX_DIFFERENCE_DEG:  # also catches NaN
        raise ParityError(
            f"the engine differs from the network by {parity.max_deg:.4g} degrees (limit {MAX_DIFFERENCE_DEG})",
            "report this with the checkpoint; the engine was not kept",
        )
    return parity
