"""Every file that an export writes is one that its target takes: told here, not on the device."""

from __future__ import annotations

from sefa_edge.export.flavours import Flavour
from sefa_edge.profiles.onnx_reader import read_onnx
from sefa_edge.profiles.onnx_rules import require_rules
from sefa_edge.profiles.onnx_targets import (
    ONNX_RUNTIME,
    TENSORRT_8_6,
    TENSORRT_10_3,
    TENSORRT_10_16,
    TENSORRT_11,
    TENSORRT_RTX,
)

WEAK_TARGETS = (TENSORRT_8_6, TENSORRT_10_3, TENSORRT_10_16, ONNX_RUNTIME)
TYPED_TARGETS = (TENSORRT_10_3, TENSORRT_10_16, TENSORRT_11, TENSORRT_RTX, ONNX_RUNTIME)


def require_buildable(flavour: Flavour) -> None:
    """Raises InputError naming the node that a target of this flavour would refuse, or silently get wrong."""
    graph = read_onnx(flavour.model.SerializeToString())
    for target in TYPED_TARGETS if flavour.strongly_typed else WEAK_TARGETS:
        require_rules(graph, target)
