"""Running a model on this machine's CPU with ONNX Runtime. The only file of the learning half that imports it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

Inputs = Mapping[str, np.ndarray]
LOG_ERRORS_ONLY = 3


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A single-threaded session: results do not depend on how work is split."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = LOG_ERRORS_ONLY
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def run_chunks(model: onnx.ModelProto, samples: Iterable[Inputs]) -> np.ndarray:
    """The model's only output for every sample, [N, T, n]."""
    session = open_session(model)
    return np.stack([np.asarray(session.run(None, dict(sample))[0]) for sample in samples])


def run_tensors(model: onnx.ModelProto, names: Sequence[str], samples: Iterable[Inputs]) -> Iterator[dict]:
    """Inner tensors of the model, sample by sample."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(watched)
    for sample in samples:
        yield dict(zip(names, session.run(list(names), dict(sample)), strict=True))
