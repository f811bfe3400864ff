"""Every file that an export writes is one that its targets take: told here, not on the device."""

from __future__ import annotations

from sefa_edge.export.flavours import Flavour
from sefa_edge.profiles.onnxfile.reader import read_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules


def require_buildable(flavour: Flavour) -> None:
    """Raises InputError naming the node that a target of this file would refuse, or silently get wrong."""
    graph = read_onnx(flavour.model.SerializeToString())
    for target in flavour.targets:
        require_rules(graph, target)
