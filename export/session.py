"""Runs a model on the CPU with ONNX Runtime. The only file in models/ and export/ that imports it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
import onnxruntime

Inputs = Mapping[str, np.ndarray]
Kernels = Literal["as_written", "integer"]
"""How Q/DQ graphs are computed: in float32 with rounding as written, or with the library's integer kernels."""
LOG_ERRORS_ONLY = 3


def open_session(model: onnx.ModelProto, kernels: Kernels = "as_written") -> onnxruntime.InferenceSession:
    """A single-threaded session, whose results do not depend on how work is split."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = LOG_ERRORS_ONLY
    if kernels == "as_written":
        # By default ONNX Runtime also quantises float biases, and a channel with a tiny scale overflows: an error of
        # 2.8 degrees that TensorRT does not have.
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def run_chunks(model: onnx.ModelProto, samples: Iterable[Inputs], kernels: Kernels = "as_written") -> np.ndarray:
    """The model's only output for every sample, [N, T, n]."""
    session = open_session(model, kernels)
    return np.stack([np.asarray(session.run(None, dict(sample))[0]) for sample in samples])


def run_tensors(model: onnx.ModelProto, names: Sequence[str], samples: Iterable[Inputs]) -> Iterator[dict]:
    """Internal tensors of the model, sample by sample."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(watched)
    for sample in samples:
        yield dict(zip(names, session.run(list(names), dict(sample)), strict=True))
