"""Every file that an export writes is one that its targets take: told here, not on the device."""

from __future__ import annotations

from sefa_edge.export.flavours import Flavour
from sefa_edge.profiles.onnxfile.integer_arithmetic import require_exact_arithmetic
from sefa_edge.profiles.onnxfile.reader import read_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules


def require_buildable(flavour: Flavour) -> None:
    """Raises InputError naming the node that a target of this file would refuse, or silently get wrong.

    A file for CPUs has to compute the same on all of them: what its gate measures on this one then holds for any.
    """
    graph = read_onnx(flavour.model.SerializeToString())
    for target in flavour.targets:
        require_rules(graph, target)
    require_exact_arithmetic(graph)
