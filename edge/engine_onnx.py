"""Engines in ONNX format, run by ONNX Runtime on the CPU. The only file that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import (
    onnxruntime_pybind11_state as onnxruntime_errors,  # pyright: ignore[reportAttributeAccessIssue]  (compiled)
)

from sefa_edge.edge.engine import EngineError, EngineOptions
from sefa_edge.profiles.card import PolicyCard, TensorSpec
from sefa_edge.profiles.onnx_reader import read_onnx

TENSOR_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
LOG_ERRORS_ONLY = 3
LOAD_ERRORS = (
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidArgument,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NotImplemented,
)


class OnnxEngine:
    """One session with its inputs and output bound once, so that a run allocates and copies nothing."""

    def __init__(self, path: Path, card: PolicyCard, options: EngineOptions) -> None:
        """Raises EngineError when the file is damaged, keeps data elsewhere, or differs from its card."""
        content = path.read_bytes()
        _refuse_external_data(path, content)
        self._card = card
        self._session = _load(path, content, options.threads)
        _check_against_card(path, self._session, card)
        self._arrays = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in _specs(card)}
        self._binding = self._bind()
        self._image_tensors = {camera.name: self._arrays[camera.tensor] for camera in card.cameras}
        for _ in range(options.warm_up_runs):
            self._session.run_with_iobinding(self._binding)

    @property
    def card(self) -> PolicyCard:
        return self._card

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """See `Engine.infer`. Raises EngineError for an input whose shape or type the card does not name."""
        for camera, tensor in self._image_tensors.items():
            _fill(tensor, images[camera], camera)
        _fill(self._arrays[self._card.joint_tensor.name], joint_deg, "joints")
        _fill(self._arrays[self._card.noise_tensor.name], noise, "noise")
        self._session.run_with_iobinding(self._binding)
        return self._arrays[self._card.chunk_tensor.name]

    def close(self) -> None:
        del self._binding, self._session

    def _bind(self) -> onnxruntime.IOBinding:
        binding = self._session.io_binding()
        for name, array in self._arrays.items():
            # An OrtValue made from an array on the CPU shares its memory and keeps it alive.
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            bind = binding.bind_ortvalue_output if name == self._card.chunk_tensor.name else binding.bind_ortvalue_input
            bind(name, value)
        return binding


def _specs(card: PolicyCard) -> list[TensorSpec]:
    return [*card.image_tensors, card.joint_tensor, card.noise_tensor, card.chunk_tensor]


def _load(path: Path, content: bytes, threads: int) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = LOG_ERRORS_ONLY
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except LOAD_ERRORS as error:
        raise EngineError(f"ONNX Runtime refuses {path}: {error}", "export again") from None


def _refuse_external_data(path: Path, content: bytes) -> None:
    if names := read_onnx(content).external_tensors:
        raise EngineError(
            f"{path} keeps the values of '{names[0]}' in another file, which its card does not vouch for",
            "export again into one file",
        )


def _check_against_card(path: Path, session: onnxruntime.InferenceSession, card: PolicyCard) -> None:
    expected = {spec.name: spec for spec in _specs(card)}
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    wanted_inputs = set(expected) - {card.chunk_tensor.name}
    if set(inputs) != wanted_inputs or set(outputs) != {card.chunk_tensor.name}:
        raise EngineError(
            f"{path} has inputs {sorted(inputs)} and outputs {sorted(outputs)}; its card names inputs "
            f"{sorted(wanted_inputs)} and output ['{card.chunk_tensor.name}']",
            "engine and card do not belong together; export again",
        )
    for name, node in (inputs | outputs).items():
        spec = expected[name]
        if node.type != TENSOR_TYPES[spec.dtype] or list(node.shape) != spec.shape:
            raise EngineError(
                f"{path}: '{name}' is {node.type} {node.shape}, its card says {spec.dtype} {spec.shape}",
                "engine and card do not belong together; export again",
            )


def _fill(tensor: np.ndarray, value: np.ndarray, name: str) -> None:
    if value.shape != tensor.shape or value.dtype != tensor.dtype:
        raise EngineError(f"{name}: {value.dtype} {value.shape} given, the engine takes {tensor.dtype} {tensor.shape}")
    tensor[...] = value
