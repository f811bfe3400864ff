"""`sefa-edge build` with the real TensorRT-RTX, which parses, type-checks and compiles ahead of time without a GPU."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sefa_edge.profiles.card import PolicyCard, card_path, load_card, save_card
from sefa_edge.profiles.files import sha256_of

pytestmark = pytest.mark.once
ROOT = Path(__file__).resolve().parents[2]
EXPORTED = ("model.onnx", "model.typed.onnx", "model.fp16.onnx", "model.fp32.onnx")
PLAN_MAGIC = b"vtrt"
KINDS = {  # precision, strongly typed, opset, type between the layers, type and value of the zero points
    "fp32": ("fp32", False, 17, np.float32, None, 0),
    "fp16": ("fp16", True, 19, np.float16, None, 0),
    "int8": ("int8", False, 17, np.float32, np.int8, 0),
    "typed": ("int8", True, 19, np.float16, np.int8, 0),
    "uint8": ("int8", False, 17, np.float32, np.uint8, 0),
    "shifted": ("int8", False, 17, np.float32, np.int8, 3),
}
QUANTISATION = {
    "calibration": {
        "method": "minmax",
        "dataset_sha256": "0" * 64,
        "episodes": 1,
        "samples": 1,
        "joint_coverage": 1.0,
    },
    "int8_layers": ["conv"],
    "int8_weight_layers": [],
    "kept_layers": [],
    "int8_weight_share": 1.0,
}
Completed = subprocess.CompletedProcess[str]
SefaEdge = Callable[..., Completed]
WriteFlavour = Callable[[Path, str], Path]


@pytest.fixture(scope="session")
def write_flavour(reach_engine: Path) -> WriteFlavour:
    """Writes an ONNX file of one of KINDS with its card, as the exporter would."""
    card = load_card(reach_engine)

    def write(path: Path, kind: str) -> Path:
        precision, typed, opset, *_ = KINDS[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(_model(card, kind), path)
        changed = {
            "engine_file": path.name,
            "engine_sha256": sha256_of(path),
            "precision": precision,
            "strongly_typed": typed,
            "opset": opset,
            "quantisation": QUANTISATION if precision == "int8" else None,
        }
        save_card(PolicyCard.model_validate({**card.model_dump(), **changed}), path)
        return path

    return write


def _model(card: PolicyCard, kind: str) -> onnx.ModelProto:
    """chunk = joints + 0 * noise + 0 * mean(conv(pictures)): small, and all tensors have the types of this kind."""
    _, _, opset, high, zero_type, zero_point = KINDS[kind]
    kept = helper.np_dtype_to_tensor_dtype(np.dtype(high))
    constants = {
        "weights": np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(high),
        "weight_scale": np.full(8, 0.02, high),
        "weight_zero": np.zeros(8, zero_type or np.int8),
        "scale": np.array(2, high),
        "zero_point": np.array(zero_point, zero_type or np.int8),
        "nothing": np.zeros((1, 1), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image_front"], ["pixels"], to=kept),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    inputs = ["planes", "weights"]
    if zero_type is not None:
        for name, scale, zero, axis in (
            ("planes", "scale", "zero_point", 1),
            ("weights", "weight_scale", "weight_zero", 0),
        ):
            nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], axis=axis))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], axis=axis))
        inputs = ["planes_dq", "weights_dq"]
    nodes += [
        helper.make_node("Conv", inputs, ["features"], name="conv"),
        helper.make_node("ReduceMean", ["features"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["seen", "nothing"], ["nothing_seen"]),
        helper.make_node("Mul", ["noise", "nothing"], ["nothing_drawn"]),
        helper.make_node("Add", ["joints", "nothing_drawn"], ["drawn"]),
        helper.make_node("Add", ["drawn", "nothing_seen"], ["chunk"]),
    ]  # fmt: skip
    specs = [*card.image_tensors, card.joint_tensor, card.noise_tensor, card.chunk_tensor]
    tensors = {
        spec.name: helper.make_tensor_value_info(
            spec.name, TensorProto.UINT8 if spec.dtype == "uint8" else TensorProto.FLOAT, spec.shape
        )
        for spec in specs
    }
    output = tensors.pop(card.chunk_tensor.name)
    used = {name for node in nodes for name in node.input}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, kind, list(tensors.values()), [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def build(sefa_edge: SefaEdge, rtx: Path) -> SefaEdge:
    """Runs `sefa-edge build … --backend tensorrt-rtx`."""

    def run(*arguments: str | Path) -> Completed:
        return sefa_edge("build", *arguments, "--backend", "tensorrt-rtx", python=(rtx,))

    return run


@pytest.fixture
def lift() -> Path:
    """The shipped policy."""
    return ROOT / "edge/shipped/lift/model.onnx"


@pytest.mark.learn
@pytest.mark.sim
@pytest.mark.parametrize("name", EXPORTED)
def test_every_flavour_of_an_export_builds(build: SefaEdge, tmp_path: Path, int8_export: Path, name: str) -> None:
    done = build(int8_export / name, "-o", tmp_path / "model.plan")
    assert done.returncode == 0, done.stderr
    assert load_card(tmp_path / "model.plan").precision == load_card(int8_export / name).precision


def test_the_shipped_policy_builds(build: SefaEdge, tmp_path: Path, lift: Path) -> None:
    plan = tmp_path / "model.plan"
    done = build(lift, "-o", plan, "--compute-capability", "SM86", "SM120")
    assert done.returncode == 0, done.stderr
    card = load_card(plan)  # checks the plan's hash as well
    assert plan.read_bytes().startswith(PLAN_MAGIC)
    assert (card.format, card.precision, card.strongly_typed) == ("tensorrt_rtx", "fp32", True)
    assert card.plan is not None
    assert card.plan.onnx_sha256 == sha256_of(lift)
    assert card.plan.library_version == "1.7.1.116"
    assert card.plan.gpu_name == "SM86 SM120"
    assert card.timing == load_card(lift).timing
    assert "ONNX IR version" in (tmp_path / "model.plan.log").read_text()
    assert sorted(path.name for path in tmp_path.glob("model.plan*")) == [
        "model.plan",
        "model.plan.json",
        "model.plan.log",
    ]


@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8", "typed"])
def test_every_typing_builds(build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path, kind: str) -> None:
    engine = write_flavour(tmp_path / "model.onnx", kind)
    done = build(engine, "-o", tmp_path / "model.plan", "--compute-capability", "SM86")
    assert done.returncode == 0, done.stderr
    card = load_card(tmp_path / "model.plan")
    assert card.precision == KINDS[kind][0]
    assert card.strongly_typed


@pytest.mark.parametrize(("precision", "flavour"), [("auto", "typed"), ("fp16", "fp16"), ("fp32", "fp32")])
def test_the_typed_flavour_of_a_folder_is_used(
    build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path, precision: str, flavour: str
) -> None:
    folder = _export_folder(tmp_path / "export", write_flavour)
    done = build(folder, "-o", tmp_path / "model.plan", "--precision", precision)
    assert done.returncode == 0, done.stderr
    card = load_card(tmp_path / "model.plan")
    assert card.plan is not None
    assert card.plan.onnx_sha256 == sha256_of(folder / f"model.{flavour}.onnx")


def test_a_folder_of_two_checkpoints_is_refused(build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path) -> None:
    folder = _export_folder(tmp_path / "export", write_flavour)
    other = card_path(folder / "model.fp16.onnx")
    other.write_text(other.read_text().replace('"checkpoint_sha256": "0', '"checkpoint_sha256": "1'))
    _refused(build(folder, "-o", tmp_path / "model.plan"), 2, "come from different checkpoints", tmp_path)


@pytest.mark.parametrize(
    ("kind", "reason"), [("uint8", "means uint8, which TensorRT reads as int8"), ("shifted", "is not 0")]
)
def test_files_that_would_be_computed_incorrectly_are_refused(
    build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path, kind: str, reason: str
) -> None:
    engine = write_flavour(tmp_path / "model.onnx", kind)
    _refused(build(engine, "-o", tmp_path / "model.plan"), 2, reason, tmp_path)


@pytest.mark.parametrize(
    ("kind", "reason"), [("uint8", "UINT8 zero_point"), ("shifted", "Non-zero zero point is not supported")]
)
def test_the_library_refuses_what_the_rules_accept(
    rtx: Path,
    with_paths: Callable[..., dict[str, str]],
    write_flavour: WriteFlavour,
    tmp_path: Path,
    kind: str,
    reason: str,
) -> None:
    """The child refuses it even where the parser only warns (uint8)."""
    engine = write_flavour(tmp_path / "model.onnx", kind)
    program = f"""
from pathlib import Path
from sefa_edge.export.plan.build_child import build
from sefa_edge.export.plan.build_messages import BuildRequest
from sefa_edge.profiles.errors import SefaError
request = BuildRequest(
    backend="tensorrt_rtx", onnx={str(engine)!r}, onnx_sha256={sha256_of(engine)!r},
    plan={str(tmp_path / "model.plan")!r}, precision="int8", strongly_typed=True, workspace_mib=64,
    optimisation_level=3, compute_capabilities=["SM86"],
)
try:
    build(request, Path({str(tmp_path / "model.plan.log")!r}), "building")
except SefaError as error:
    print(error.exit_code, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=with_paths((rtx,), ()), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("2 TensorRT ")
    assert reason in done.stdout
    assert _plans(tmp_path) == []


def test_truncated_model_is_refused(build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path) -> None:
    engine = write_flavour(tmp_path / "model.onnx", "fp32")
    engine.write_bytes(engine.read_bytes()[:-100])
    _refused(build(engine, "-o", tmp_path / "model.plan"), 2, "is not the file that its card describes", tmp_path)
    card = json.loads(card_path(engine).read_text())
    card_path(engine).write_text(json.dumps({**card, "engine_sha256": sha256_of(engine)}))
    _refused(build(engine, "-o", tmp_path / "model.plan"), 2, "the ONNX file ends too early", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-o", "OUT/model.engine"], "does not end in .plan"),
        (["-o", "OUT/nowhere/model.plan"], "does not exist"),
        (["-o", "OUT/model.plan", "--compute-capability", "SM87"], "does not build for SM87"),
        (["-o", "OUT/model.plan", "--precision", "int8"], "can build fp32 from model.onnx, not int8"),
        (["-o", "OUT/model.plan", "--choose", "fastest"], "--choose fastest and --dataset belong together"),
        (["-o", "OUT/model.plan", "--workspace-mib", "0"], "--workspace-mib: expected a size"),
    ],
)
def test_wrong_arguments_are_refused(
    build: SefaEdge, reach_engine: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = build(reach_engine, *(argument.replace("OUT", str(tmp_path)) for argument in arguments))
    _refused(done, 2, reason, tmp_path)


def test_a_machine_without_the_library_says_what_to_install(
    sefa_edge: SefaEdge, reach_engine: Path, tmp_path: Path
) -> None:
    done = sefa_edge("build", reach_engine, "-o", tmp_path / "model.plan")
    _refused(done, 4, "TensorRT is not installed for this Python", tmp_path)
    assert "python3-libnvinfer" in done.stderr
    assert "--system-site-packages" in done.stderr


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_crash_of_the_child_is_reported_in_one_line(
    start: Callable[[Path], subprocess.Popen[str]], lift: Path, tmp_path: Path, name: str
) -> None:
    command = start(lift)
    child = _building_child(command)
    os.kill(child, signal.Signals[name])
    os.kill(child, signal.SIGCONT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    log = tmp_path / "model.plan.log"
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        f"error: the build process was ended by {name}; its log is {log}"
    ]
    assert "Traceback" not in errors
    assert log.exists()
    assert _plans(tmp_path) == []


def test_ctrl_c_leaves_no_partial_plan_and_no_child(
    start: Callable[[Path], subprocess.Popen[str]], lift: Path, tmp_path: Path
) -> None:
    command = start(lift)
    child = _building_child(command)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "Traceback" not in errors
    _wait_for_end(child)
    assert _plans(tmp_path) == []


def test_the_child_ends_with_a_parent_that_is_killed(
    start: Callable[[Path], subprocess.Popen[str]], lift: Path, tmp_path: Path
) -> None:
    command = start(lift)
    child = _building_child(command)
    command.kill()
    command.communicate(timeout=60)
    _wait_for_end(child)
    assert not (tmp_path / "model.plan").exists()


def test_an_older_plan_survives_a_failed_build(build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    assert build(write_flavour(tmp_path / "good" / "model.onnx", "fp32"), "-o", plan).returncode == 0
    before = sha256_of(plan)
    assert build(write_flavour(tmp_path / "bad" / "model.onnx", "shifted"), "-o", plan).returncode == 2
    assert sha256_of(plan) == before
    load_card(plan)


def test_choosing_the_fastest_keeps_no_plan_that_could_not_be_compared(
    build: SefaEdge, write_flavour: WriteFlavour, tmp_path: Path
) -> None:
    """Without a GPU every flavour builds and none can be timed: no plan, a reason, and no folder of candidates."""
    folder = _export_folder(tmp_path / "export", write_flavour)
    done = build(folder, "-o", tmp_path / "model.plan", "--choose", "fastest", "--dataset", tmp_path)
    assert done.returncode in (1, 4), done.stderr
    assert "could not be compared" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert _plans(tmp_path) == []
    assert list(tmp_path.glob(".candidates*")) == []


def _export_folder(folder: Path, write_flavour: WriteFlavour) -> Path:
    write_flavour(folder / "model.onnx", "int8")
    for kind in ("typed", "fp16", "fp32"):
        write_flavour(folder / f"model.{kind}.onnx", kind)
    return folder


def _refused(done: Completed, exit_code: int, reason: str, folder: Path) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == exit_code, done.stderr
    assert len(errors) == 1
    assert reason in errors[0]
    assert "Traceback" not in done.stderr
    assert _plans(folder) == []


def _plans(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("model.plan*") if path.suffix != ".log"]


def _wait_for_end(child: int) -> None:
    """Wakes a stopped child, if it still exists, and waits until it has exited."""
    status = Path(f"/proc/{child}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(child, signal.SIGCONT)
        while status.read_text().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)


@pytest.fixture
def start(
    tmp_path: Path, rtx: Path, with_paths: Callable[..., dict[str, str]]
) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts `sefa-edge build` and does not wait for it."""
    started: list[subprocess.Popen[str]] = []

    def run(engine: Path) -> subprocess.Popen[str]:
        arguments = ["build", engine, "-o", tmp_path / "model.plan", "--backend", "tensorrt-rtx"]
        command = subprocess.Popen(
            [sys.executable, "-m", "sefa_edge", *map(str, arguments)],
            env=with_paths((rtx,), ()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # pytest may run in background
        )
        started.append(command)
        return command

    yield run
    for command in started:
        with command:  # closes its pipes and waits
            command.kill()


def _building_child(command: subprocess.Popen[str]) -> int:
    """The second child, which builds (the first reports the library's features): stopped before it can exit."""
    seen: list[int] = []
    listing = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    while command.poll() is None:
        seen += [pid for pid in map(int, listing.read_text().split()) if pid not in seen]
        # Before it runs our module it is a copy of its parent, which waits inside vfork and would be stopped with it.
        if len(seen) == 2 and b"build_process" in Path(f"/proc/{seen[1]}/cmdline").read_bytes():
            os.kill(seen[1], signal.SIGSTOP)
            return seen[1]
        time.sleep(0.001)
    raise AssertionError(command.communicate())
