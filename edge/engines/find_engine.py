"""Resolves `--engine`: a file, or a folder, from which the engine that fits this machine is chosen."""

from __future__ import annotations

import sys
from pathlib import Path

from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.files import path_argument

ONNX_FILES = ("model.cpu.onnx", "model.onnx", "model.fp16.onnx", "model.fp32.onnx")
"""Files that ONNX Runtime runs on a CPU, in order of preference."""
MAX_LISTED = 8


def engine_at(text: str) -> Path:
    """The engine at a path. A file is returned as it is, and checked when it is opened.

    For a folder, a note on standard error says which file was chosen when a preferred one does not fit.

    Raises:
        InputError: a folder without an engine for this machine; lists its contents.
        ArgumentTypeError: an empty path.
    """
    path = path_argument(text)
    return _engine_in(path) if path.is_dir() else path


def _engine_in(folder: Path) -> Path:
    reasons: list[str] = []
    plans = sorted(folder.glob("*.plan"), key=lambda path: path.name != "model.plan")
    for candidate in (*plans, *(folder / name for name in ONNX_FILES)):
        if candidate.is_file():
            reason = _why_unusable(candidate)
            if not reason:
                if reasons:
                    print(f"note: using {candidate}, not {'; '.join(reasons)}", file=sys.stderr)
                return candidate
            reasons.append(f"{candidate.name}: {reason}")
    if reasons:
        raise InputError(
            f"{folder} contains no engine for this machine: {'; '.join(reasons)}", "build or export it again"
        )
    raise InputError(f"{folder} contains no engine; {_contents(folder)}", _hint(folder))


def _why_unusable(engine: Path) -> str:
    """Why this machine cannot run the engine; empty when it can."""
    from sefa_edge.profiles.card import load_card
    from sefa_edge.profiles.gpu import search_gpu
    from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES

    try:
        card = load_card(engine)
        if card.plan is None or card.format == "onnx":
            _check_graph(engine)
            return ""
    except SefaError as error:
        return str(error).removeprefix(f"{engine}: ").removeprefix(f"{engine} ")
    found = search_gpu()
    if found.gpu is None:
        return found.reason
    if PLAN_LIBRARIES[card.format].installed_module() is None:
        return f"{PLAN_LIBRARIES[card.format].title} is not installed"
    is_here = card.plan.compute_capability in ("none", found.gpu.compute_capability)
    return "" if is_here else f"it was built on {card.plan.gpu_name}, this GPU is {found.gpu.name}"


def _check_graph(engine: Path) -> None:
    """Raises InputError when ONNX Runtime would compute the graph incorrectly, on this processor or on any."""
    from sefa_edge.edge.engines.onnx_file import read_verified
    from sefa_edge.profiles.onnxfile.integer_arithmetic import saturating_layers

    graph = read_verified(engine)
    if saturating_layers(graph):  # only then is loading the library needed
        from sefa_edge.edge.engines.onnx_runtime import require_exact_here

        require_exact_here(engine, graph)


def _contents(folder: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"it contains {', '.join(names[:MAX_LISTED])}{more}"


def _hint(folder: Path) -> str:
    if (folder / "checkpoint.json").is_file():
        return f"this is a checkpoint: sefa-edge export {folder} -o DIR turns it into an engine"
    if (folder / "meta/info.json").is_file():
        return "this is a dataset; pass the folder of an export, or a model.onnx"
    return "pass the folder of an export, or a model.onnx"
