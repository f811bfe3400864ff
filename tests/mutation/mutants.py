"""Mutation tests: puts small faults into a module of edge/control, one at a time; each must make a test fail.

    PYTHONPATH=.typing .venv/bin/python tests/mutation/mutants.py        (`make mutants`)

--module takes safety, modes, motion or watched_arm; the default is GATED. Prints every mutant that no test detected;
exit code 1 if there is one. Mutants run in forked processes that have imported everything but edge/control: those of
safety and modes mostly end within half a second.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

import sefa_edge.edge.ipc.records
import sefa_edge.firmware_bridge.host.open_arm
import sefa_edge.firmware_bridge.simulation.bus
import sefa_edge.firmware_bridge.simulation.plant_arm
import sefa_edge.profiles.arms  # noqa: F401  imported once here, not in every mutant

ROOT = Path(__file__).parents[2]
PACKAGE = "sefa_edge.edge.control"
LOCK_STEP = "tests/edge/control/test_loop_lockstep.py"
TESTS = {
    "safety": (
        "tests/edge/control/test_safety.py",
        "tests/edge/control/test_guard.py",
        "tests/property/test_safety_limits.py",
    ),
    "modes": ("tests/edge/control/test_modes.py", "tests/property/test_modes_machine.py"),
    "motion": ("tests/edge/control/test_motion.py", LOCK_STEP),
    "watched_arm": ("tests/edge/control/test_watched_arm.py", LOCK_STEP),
}
"""The tests of each module, quick ones first: the others run only if those pass."""
GATED = ("safety", "modes")
"""Modules of which no mutant may survive."""
TIMEOUT_S = 120
NO_TEST_FAILED = 0

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Pow: (ast.Mult,), ast.BitOr: (ast.BitAnd,), ast.BitAnd: (ast.BitOr,),
}  # fmt: skip
"""Operators and their replacements."""

RENAMES = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "floor": "ceil", "any": "all", "all": "any",
    "ones": "zeros", "zeros": "ones",
}  # fmt: skip
"""Functions and the replacements with which the program still runs."""

IDENTITIES = frozenset({"abs", "clip", "copysign", "sign", "sqrt", "isfinite"})
"""Functions whose call is replaced by its first argument."""


@dataclass(frozen=True)
class Mutant:
    """A changed module, with the line and the text of the change."""

    module: str
    line: int
    change: str
    tree: ast.Module


def mutants(module: str) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = original(module)
    for index, node in enumerate(_code(tree)):
        for variant in _variants(node):
            mutated = copy.deepcopy(tree)
            _replace(mutated, list(_code(mutated))[index], variant)
            line = getattr(node, "lineno", 0)
            yield Mutant(module, line, f"{_text(node)}  ->  {_text(variant)}", ast.fix_missing_locations(mutated))


def original(module: str) -> ast.Module:
    """Syntax tree of the unchanged module."""
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


def source_of(module: str) -> Path:
    return ROOT / f"edge/control/{module}.py"


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that are executed: no annotations or decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp | ast.BoolOp):
        for operator in SWAPS.get(type(node.op), ()):
            yield _changed(node, op=operator())
    elif isinstance(node, ast.Compare):
        for place, old in enumerate(node.ops):
            for operator in SWAPS.get(type(old), ()):
                yield _changed(node, ops=[*node.ops[:place], operator(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield _changed(node, ifs=[])
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.If):
        yield from (_changed(node, test=ast.Constant(outcome)) for outcome in (True, False))
    elif isinstance(node, ast.Assign | ast.AugAssign):
        yield ast.Pass()
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in RENAMES:
        replacement = RENAMES[name]
        func = _changed(
            node.func, **({"attr": replacement} if isinstance(node.func, ast.Attribute) else {"id": replacement})
        )
        yield _changed(node, func=func)
    if name in IDENTITIES:
        yield node.args[0]
    if name == "where":
        yield _changed(node, args=[node.args[0], node.args[2], node.args[1]])


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
            elif isinstance(value, list) and any(child is old for child in value):
                setattr(node, name, [new if child is old else child for child in value])


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:90]


def fork(mutant: Mutant) -> int:
    """Start the tests against a mutant; returns the process id. Its exit status is pytest's."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(TIMEOUT_S)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    status = 1
    try:
        name = f"{PACKAGE}.{mutant.module}"
        module = sys.modules[name] = ModuleType(name)
        exec(compile(mutant.tree, str(source_of(mutant.module)), "exec"), module.__dict__)
        for path in TESTS[mutant.module]:
            status = pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", path])
            if status != NO_TEST_FAILED:
                break
    finally:
        os._exit(status)


def survivors(candidates: list[Mutant], jobs: int) -> list[Mutant]:
    """The mutants that no test detected; prints each one."""
    running: dict[int, Mutant] = {}
    survived: list[Mutant] = []
    for done, mutant in enumerate([*candidates, *[None] * jobs]):
        while len(running) >= jobs or (mutant is None and running):
            pid, status = os.wait()
            finished = running.pop(pid)
            if os.waitstatus_to_exitcode(status) == NO_TEST_FAILED:
                survived.append(finished)
                print(f"edge/control/{finished.module}.py:{finished.line}: {finished.change}", flush=True)
        if mutant is not None:
            running[fork(mutant)] = mutant
            if sys.stderr.isatty():
                print(f"\r{done + 1}/{len(candidates)}, {len(survived)} survived", end="", file=sys.stderr, flush=True)
    return survived


def main() -> int:
    """Returns exit status 1 if a mutant survived, 2 if nothing could be tested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", choices=TESTS, help="only this module (default: those in GATED)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--line", type=int, metavar="L", help="only the mutants of this line")
    args = parser.parse_args()
    os.chdir(ROOT)
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # no shrinking: a minimal example is not needed
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutants")
    modules = args.module or GATED
    for module in modules:
        if os.waitstatus_to_exitcode(os.waitpid(fork(Mutant(module, 0, "", original(module))), 0)[1]) != NO_TEST_FAILED:
            print(f"error: the tests of {module} fail without any mutant", file=sys.stderr)
            return 2
    began = time.monotonic()
    candidates = [mutant for module in modules for mutant in mutants(module) if args.line in (None, mutant.line)]
    if not candidates:
        print("error: there is no mutant to try: --line names a line without code", file=sys.stderr)
        return 2
    survived = survivors(candidates, max(1, args.jobs or 1))
    print(f"{len(candidates)} mutants in {time.monotonic() - began:.0f} s, {len(survived)} survived", file=sys.stderr)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
