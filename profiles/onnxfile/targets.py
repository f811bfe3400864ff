"""The runtimes for ONNX files and their limits. The versions are those of JetPack."""

from __future__ import annotations

from dataclasses import dataclass

OLDEST_OPSET = 13
"""The first opset whose QuantizeLinear has an axis; nothing here writes an older one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime, for `broken_rules`."""

    name: str
    newest_opset: int
    is_tensorrt: bool = True
    """Requires TensorRT's quantisation (signed, symmetric, per-tensor activations) and static graphs."""
    allows_fp8: bool = False
    missing_ops: frozenset[str] = frozenset()
    """Standard operators that are on its list but fail."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """Why a target would refuse a graph, or silently compute something else."""

    node: str
    """Name of the node, input or tensor; `model` for the whole file."""
    rule: str
    explanation: str
    hint: str


TENSORRT_8_6 = Target("TensorRT 8.6", 17)
"""JetPack 6.0."""
TENSORRT_10_3 = Target("TensorRT 10.3", 20)
"""JetPack 6.1 and 6.2."""
TENSORRT_10_16 = Target("TensorRT 10.16", 24)
"""JetPack 7.2. All of these are for an Orin, whose GPU (SM 8.7) has no FP8."""
TENSORRT_11 = Target("TensorRT 11", 24)
TENSORRT_RTX = Target("TensorRT-RTX", 24, allows_fp8=True, missing_ops=frozenset({"Attention"}))
"""Desktop GPUs. A single Attention node with a 3-D input crashed its compiler (1.7)."""
ONNX_RUNTIME = Target("ONNX Runtime", 23, is_tensorrt=False, allows_fp8=True)
"""1.23, the last version for Python 3.10, which refuses opset 24."""

TARGETS: dict[str, tuple[Target, ...]] = {
    "orin": (TENSORRT_10_3, TENSORRT_10_16),
    "tensorrt-8.6": (TENSORRT_8_6,),
    "tensorrt-10.3": (TENSORRT_10_3,),
    "tensorrt-10.16": (TENSORRT_10_16,),
    "tensorrt-11": (TENSORRT_11,),
    "tensorrt-rtx": (TENSORRT_RTX,),
    "onnxruntime": (ONNX_RUNTIME,),
}
"""By name on the command line. `orin` is JetPack 6.1 to 7.2; JetPack 6.0 has TensorRT 8.6."""
ALL_TARGETS = (TENSORRT_8_6, TENSORRT_10_3, TENSORRT_10_16, TENSORRT_11, TENSORRT_RTX, ONNX_RUNTIME)
