"""The list of what TensorRT accepts, compared with NVIDIA's parser: TensorRT-RTX parses what the list accepts."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from sefa_edge.profiles.onnxfile.reader import OnnxFormatError, read_onnx
from sefa_edge.profiles.onnxfile.rules import broken_rules
from sefa_edge.profiles.onnxfile.targets import TENSORRT_RTX

pytest.importorskip("onnx")
pytestmark = pytest.mark.once
NO_IMPORTER = Path(__file__).resolve().parents[3] / "shared/cases/12_onnx_no_importer"
FEWEST_AGREED = 300
PARSE_ALL = """
import json, sys
import tensorrt_rtx_bindings as trt
class SilentLogger(trt.ILogger):
    def __init__(self): trt.ILogger.__init__(self)
    def log(self, severity, message): pass
logger = SilentLogger()
builder = trt.Builder(logger)
for path in sys.stdin.read().split():
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(open(path, "rb").read())
    print(json.dumps([path, parsed, "" if parsed else parser.get_error(0).desc()]), flush=True)
"""


@pytest.fixture(scope="session")
def parse(rtx: Path, with_paths: Callable[..., dict[str, str]]) -> Callable[[list[Path]], dict[Path, str]]:
    """Why TensorRT-RTX's parser refuses each file; empty when it accepts it."""

    def run(files: list[Path]) -> dict[Path, str]:
        done = subprocess.run(
            [sys.executable, "-c", PARSE_ALL],
            input="\n".join(map(str, files)), env=with_paths((rtx,), ()),
            capture_output=True, text=True, timeout=600, check=True,
        )  # fmt: skip
        answers = map(json.loads, done.stdout.splitlines())
        return {Path(path): "" if parsed else reason or "refused" for path, parsed, reason in answers}

    return run


@pytest.fixture(scope="session")
def node_models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The one-operator models of ONNX's own conformance suite."""
    from onnx.backend.test.case.node import collect_testcases

    folder, written = tmp_path_factory.mktemp("nodes"), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from numpy, in the arithmetic of the examples
        for case in collect_testcases(None):
            if case.model is not None:
                written.append(folder / f"{case.name}.onnx")
                written[-1].write_bytes(case.model.SerializeToString())
    return written


def is_accepted(path: Path) -> bool:
    try:
        return not broken_rules(read_onnx(path.read_bytes()), TENSORRT_RTX)
    except OnnxFormatError:
        return False


def test_files_that_the_list_accepts_are_parsed(
    parse: Callable[[list[Path]], dict[Path, str]], node_models: list[Path]
) -> None:
    chosen = [path for path in node_models if is_accepted(path)]
    refused = {path.stem: reason for path, reason in parse(chosen).items() if reason}
    assert refused == {}
    assert len(chosen) >= FEWEST_AGREED


@pytest.mark.skipif(not NO_IMPORTER.is_dir(), reason="the files of operators without an importer are missing")
def test_operators_without_an_importer_are_refused_by_both(parse: Callable[[list[Path]], dict[Path, str]]) -> None:
    files = sorted(NO_IMPORTER.glob("*.onnx"))
    assert not any(map(is_accepted, files))
    assert all(parse(files).values())
