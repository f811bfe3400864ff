"""Our use of TensorRT, checked against the real bindings: `python api_use.py [--misspell] FILE...`.

Run with the bindings on the path. Reads the sources with `ast` and follows the library's objects through them: a name
leads to a class, a call to the return type in the binding's docstring, an argument to the parameter of our
function. Reports as JSON what is used, and every use that this version of the library would refuse. With --misspell,
each attribute is misspelt in turn, and the report lists those that were not noticed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

MODULES = ("tensorrt_bindings", "tensorrt_rtx_bindings")
ROUNDS = 4  # of inference: types flow from calls to parameters, and from returns to calls
SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\)(?: -> (.+))?$", re.MULTILINE)
FROM_FUNCTIONS = ("getattr", "hasattr", "setattr")


@dataclass(frozen=True)
class Known:
    """The kind of an expression: the module, one of its classes, an object of one, a method, or a class of our own."""

    kind: str  # module, class, object, method, own
    value: object
    owner: str = ""


@dataclass
class Report:
    used: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    problems: set[str] = field(default_factory=set)
    optional_present: set[str] = field(default_factory=set)
    optional_absent: set[str] = field(default_factory=set)


class Library:
    """The bindings under test."""

    def __init__(self) -> None:
        name = next(name for name in MODULES if importlib.util.find_spec(name))
        self.module = importlib.import_module(name)
        self.classes = {name: value for name, value in vars(self.module).items() if inspect.isclass(value)}
        self.names_with_underscore = {
            name for cls in self.classes.values() for name in dir(cls) if "_" in name.strip("_")
        }

    def returned(self, signature: str | None) -> Known | None:
        """What a docstring's `-> tensorrt_bindings.tensorrt.ICudaEngine` is; None for plain Python values."""
        cls = self.classes.get((signature or "").rpartition(".")[2].strip())
        return Known("object", cls) if cls else None


class Checker(ast.NodeVisitor):
    """Walks one source file."""

    def __init__(self, library: Library, tree: ast.Module) -> None:
        self.library, self.tree, self.report = library, tree, Report()
        self.optional = _optional(tree)
        nodes = list(ast.walk(tree))
        self.functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
        self.own = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
        self.own_names = {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_self(node.value)}
        self.parameters: dict[tuple[str, str], Known] = {}
        self.returns: dict[str, Known] = {}
        self.fields: dict[tuple[str, str], Known] = {}
        self.scopes: list[dict[str, Known]] = [{}]
        self.inside: list[ast.FunctionDef | ast.ClassDef] = []

    def run(self) -> Report:
        for _ in range(ROUNDS):
            self.report = Report()
            self.visit(self.tree)
        return self.report

    # statements

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.startswith("tensorrt"):
                self.scopes[-1][alias.asname or alias.name] = Known("module", self.library.module)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in [known for each in node.bases if (known := self.kind(each)) and known.kind == "class"]:
            for method in [item for item in node.body if isinstance(item, ast.FunctionDef)]:
                if not method.name.startswith("_"):
                    self.attribute(base, method.name, method)
        self.scope(node, {})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        names: dict[str, Known] = {}
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            annotation = ast.unparse(argument.annotation) if argument.annotation else ""
            if annotation.split(".")[-1] == "ModuleType":
                names[argument.arg] = Known("module", self.library.module)
            elif known := self.parameters.get((node.name, argument.arg)):
                names[argument.arg] = known
        if self.inside and isinstance(self.inside[-1], ast.ClassDef) and node.args.args:
            names[node.args.args[0].arg] = Known("own", self.inside[-1].name)
        self.scope(node, names)

    def scope(self, node: ast.FunctionDef | ast.ClassDef, names: dict[str, Known]) -> None:
        self.scopes.append(names)
        self.inside.append(node)
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()
        self.inside.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self.assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.assign(node.target, node.value)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            known = self.kind(item.context_expr)
            if known and isinstance(item.optional_vars, ast.Name):
                self.scopes[-1][item.optional_vars.id] = known
        for statement in node.body:
            self.visit(statement)

    def visit_Return(self, node: ast.Return) -> None:
        functions = [each for each in self.inside if isinstance(each, ast.FunctionDef)]
        if node.value and (known := self.kind(node.value)) and functions:
            self.returns[functions[-1].name] = known

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for each, part in zip(target.elts, value.elts, strict=True):
                self.assign(each, part)
            return
        known = self.kind(value)
        if isinstance(target, ast.Name) and known:
            self.scopes[-1][target.id] = known
        elif isinstance(target, ast.Attribute):
            receiver = self.kind(target.value)
            if receiver and receiver.kind == "own" and known:
                self.fields[str(receiver.value), target.attr] = known
            elif receiver:
                self.attribute(receiver, target.attr, target)
            else:
                self.unknown(target)

    # expressions

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.kind(node)
        else:
            super().visit(node)

    def kind(self, node: ast.expr) -> Known | None:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Attribute):
            receiver = self.kind(node.value)
            return self.attribute(receiver, node.attr, node) if receiver else self.unknown(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.NamedExpr):
            if known := self.kind(node.value):
                self.scopes[-1][node.target.id] = known
            return known
        if isinstance(node, ast.Lambda):
            return self.kind(node.body)
        for child in ast.iter_child_nodes(node):
            self.visit(child)
        if isinstance(node, ast.BoolOp | ast.IfExp):
            parts = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            return next((known for part in parts if (known := self.kind(part))), None)
        return None

    def attribute(self, receiver: Known, name: str, node: ast.AST) -> Known | None:
        if receiver.kind == "own":
            return self.fields.get((str(receiver.value), name))
        if receiver.kind == "method" or (name[:2] == name[-2:] == "__" and name != "__init__"):
            return None
        owner = _name(receiver.value)
        self.report.used.setdefault(f"{owner}.{name}", []).append((node.lineno, node.col_offset))  # type: ignore[attr-defined]
        optional = self.is_optional(owner, name)
        if not hasattr(receiver.value, name):
            if not optional:
                self.problem(node, f"{owner} has no '{name}'")
            self.report.optional_absent.add(f"{owner}.{name}")
            return None
        if optional:
            self.report.optional_present.add(f"{owner}.{name}")
        return self.member(receiver, name, node)

    def member(self, receiver: Known, name: str, node: ast.AST) -> Known | None:
        value = inspect.getattr_static(receiver.value, name)
        if receiver.kind in ("class", "object") and isinstance(value, property):
            if isinstance(getattr(node, "ctx", None), ast.Store) and value.fset is None:
                self.problem(node, f"{_name(receiver.value)}.{name} cannot be set")
            signature = SIGNATURE.search(f"_{(value.fget.__doc__ or '').strip()}" if value.fget else "")
            return self.library.returned(signature[3] if signature else None)
        actual = getattr(receiver.value, name)
        if inspect.isclass(actual):
            return Known("class", actual)
        if callable(actual):
            return Known("method", actual, receiver.kind)
        return Known("object", type(actual)) if type(actual) in self.library.classes.values() else None

    def call(self, node: ast.Call) -> Known | None:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(argument)
        if isinstance(node.func, ast.Name) and node.func.id in FROM_FUNCTIONS:
            return self.feature_test(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "import_module":
            return Known("module", self.library.module)
        known = self.kind(node.func)
        if known and known.kind == "class":
            self.check_arguments(node, known.value.__init__)  # type: ignore[misc]
            return Known("object", known.value)
        if known and known.kind == "method":
            signature = self.check_arguments(node, known.value) if known.owner != "class" else None
            return self.library.returned(signature)
        if name in self.own:
            return Known("own", name)
        if name in self.functions:
            self.pass_arguments(node, self.functions[name])
            return self.returns.get(name)
        return None

    def feature_test(self, node: ast.Call) -> None:
        receiver, tested = self.kind(node.args[0]), node.args[1]
        if receiver and receiver.kind != "own" and isinstance(tested, ast.Constant) and isinstance(tested.value, str):
            owner = _name(receiver.value)
            if not self.is_optional(owner, tested.value):
                self.problem(node, f"{owner}.{tested.value} is tested for, but is not in OPTIONAL")

    def pass_arguments(self, node: ast.Call, function: ast.FunctionDef) -> None:
        names = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
        given = dict(zip(names, node.args, strict=False)) | {item.arg: item.value for item in node.keywords if item.arg}
        for name, value in given.items():
            if known := self.kind(value):
                self.parameters[function.name, name] = known

    def check_arguments(self, node: ast.Call, function: object) -> str | None:
        """The return type of the overload in the docstring that accepts these arguments."""
        overloads = [found for found in SIGNATURE.findall(function.__doc__ or "") if "*args" not in found[1]]
        if not overloads or any(isinstance(argument, ast.Starred) for argument in node.args):
            return None
        given = {keyword.arg for keyword in node.keywords}
        for _, text, result in overloads:
            names = [part.split(":")[0].strip() for part in _split(text)][1:]
            needed = [name for name, part in zip(names, _split(text)[1:], strict=True) if "=" not in part]
            left = set(names[len(node.args) :])
            if len(node.args) <= len(names) and given <= left and set(needed) & left <= given:
                return result
        self.problem(node, f"no overload takes these arguments: {overloads[0][0]}({overloads[0][1]})")
        return None

    def unknown(self, node: ast.Attribute) -> None:
        """Report a name of the library on an object of unknown type, which could not be checked."""
        if (
            node.attr in self.library.names_with_underscore
            and node.attr not in self.own_names
            and node.attr not in self.functions
        ):
            self.problem(node, f"cannot determine what '{ast.unparse(node.value)}' of '.{node.attr}' is")

    def is_optional(self, owner: str, name: str) -> bool:
        return name in self.optional.get("tensorrt" if owner in MODULES else owner, ())

    def problem(self, node: ast.AST, text: str) -> None:
        self.report.problems.add(f"line {node.lineno}: {text}")  # type: ignore[attr-defined]


def _optional(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """The table OPTIONAL of a source file, which stands beside its feature tests."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OPTIONAL":
            return ast.literal_eval(node.value)
    return {}


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _name(value: object) -> str:
    return value.__name__ if inspect.isclass(value) or isinstance(value, ModuleType) else type(value).__name__


def _split(text: str) -> list[str]:
    """The parameters of a signature, at the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def unnoticed_misspellings(library: Library, source: str) -> list[str]:
    """Attributes whose misspelling would change nothing in the report."""
    unnoticed = []
    for use, places in Checker(library, ast.parse(source)).run().used.items():
        for place in places:
            tree = ast.parse(source)
            name = use.rpartition(".")[2]
            for node in ast.walk(tree):
                if (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)) != place:
                    continue
                if isinstance(node, ast.Attribute) and node.attr == name:
                    node.attr += "_misspelt"
                elif isinstance(node, ast.FunctionDef) and node.name == name:
                    node.name += "_misspelt"
            if not any("_misspelt" in problem for problem in Checker(library, tree).run().problems):
                unnoticed.append(f"{use} at line {place[0]}")
    return unnoticed


def main() -> None:
    library = Library()
    files = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    result: dict[str, object] = {"version": library.module.__version__}
    for path in files:
        source = path.read_text(encoding="utf-8")
        report = Checker(library, ast.parse(source)).run()
        result[path.name] = {
            "used": sorted(report.used),
            "problems": sorted(report.problems),
            "optional_present": sorted(report.optional_present),
            "optional_absent": sorted(report.optional_absent),
            "unnoticed": unnoticed_misspellings(library, source) if "--misspell" in sys.argv else [],
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
