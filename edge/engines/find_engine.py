"""What `--engine` means: a file, or a folder, of which the engine that fits this machine is taken."""

from __future__ import annotations

import sys
from pathlib import Path

from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.files import path_argument

ONNX_FILES = ("model.cpu.onnx", "model.onnx", "model.fp16.onnx", "model.fp32.onnx")
"""What ONNX Runtime takes on a CPU, the form that is made for it first."""
MAX_LISTED = 8


def engine_at(word: str) -> Path:
    """The engine that a person means by a path; a file is taken as it is, and checked when it is opened.

    Of a folder, standard error tells which file was taken when one that goes before it does not fit.

    Raises:
        InputError: a folder without an engine for this machine; says what it holds.
        ArgumentTypeError: an empty word.
    """
    path = path_argument(word)
    return _engine_in(path) if path.is_dir() else path


def _engine_in(folder: Path) -> Path:
    reasons: list[str] = []
    plans = sorted(folder.glob("*.plan"), key=lambda path: path.name != "model.plan")
    for candidate in (*plans, *(folder / name for name in ONNX_FILES)):
        if candidate.is_file():
            reason = _reason_against(candidate)
            if not reason:
                if reasons:
                    print(f"note: {candidate} is taken, not {'; '.join(reasons)}", file=sys.stderr)
                return candidate
            reasons.append(f"{candidate.name}: {reason}")
    if reasons:
        raise InputError(f"{folder} holds no engine for this machine: {'; '.join(reasons)}", "build or export it again")
    raise InputError(f"{folder} is a folder without an engine; {_contents(folder)}", _hint(folder))


def _reason_against(engine: Path) -> str:
    """Why this machine cannot run it; empty when it can."""
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
    return "" if is_here else f"it was built on {card.plan.gpu_name}, here is {found.gpu.name}"


def _check_graph(engine: Path) -> None:
    """Raises InputError for a graph that ONNX Runtime does not compute as written, on this processor or at all."""
    from sefa_edge.edge.engines.onnx_file import read_vouched
    from sefa_edge.profiles.onnxfile.integer_arithmetic import saturating_layers

    graph = read_vouched(engine)
    if saturating_layers(graph):  # only then is the library worth its loading
        from sefa_edge.edge.engines.onnx_runtime import require_exact_here

        require_exact_here(engine, graph)


def _contents(folder: Path) -> str:
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"it holds {', '.join(names[:MAX_LISTED])}{more}"


def _hint(folder: Path) -> str:
    if (folder / "checkpoint.json").is_file():
        return f"this is a checkpoint: sefa-edge export {folder} -o DIR makes an engine of it"
    if (folder / "meta/info.json").is_file():
        return "this is a dataset; give the folder of an export, or a model.onnx"
    return "give the folder of an export, or a model.onnx"
