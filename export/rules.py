"""Checks that every exported file is accepted by its targets, so that errors appear here and not on the device."""

from __future__ import annotations

from sefa_edge.export.flavours import Flavour
from sefa_edge.profiles.onnxfile.integer_arithmetic import require_exact_arithmetic
from sefa_edge.profiles.onnxfile.reader import read_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules


def require_buildable(flavour: Flavour) -> None:
    """Raises InputError naming the node that a target of this file would refuse, or silently get wrong.

    A file for CPUs must compute the same on all of them, so that the gate's result is valid for all.
    """
    graph = read_onnx(flavour.model.SerializeToString())
    for target in flavour.targets:
        require_rules(graph, target)
    require_exact_arithmetic(graph)
