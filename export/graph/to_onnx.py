"""From a policy to one static ONNX graph: uint8 images, joints and noise in, action chunk in joint units out."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sefa_edge import __version__
from sefa_edge.export.graph.inference_network import GraphForm, InferenceNetwork
from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.policy import FlowPolicy

OPSET = 17
"""Newest opset of TensorRT 8.6, the oldest TensorRT on JetPack 6."""
JOINTS, NOISE, CHUNK = "joints", "noise", "chunk"


def image_tensor_name(camera: str) -> str:
    return f"image_{camera}"


def example_inputs(network: NetworkConfig, seed: int) -> dict[str, Tensor]:
    """Random inputs with the engine's names, shapes and types."""
    random = torch.Generator().manual_seed(seed)
    shape = (network.n_obs_steps, network.height, network.width, 3)
    images = {
        image_tensor_name(camera): torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
        for camera in network.cameras
    }
    joints = 20 * torch.randn(network.n_obs_steps, network.joints, generator=random)
    return {**images, JOINTS: joints, NOISE: torch.randn(network.horizon, network.joints, generator=random)}


def policy_graph(policy: FlowPolicy, network_calls: int, form: GraphForm) -> onnx.ModelProto:
    """The policy with `network_calls` unrolled Euler steps as a checked float32 model, opset 17."""
    network = InferenceNetwork(policy, network_calls, form)
    return trace(network, example_inputs(policy.config, seed=0), (CHUNK,))


def trace(network: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> onnx.ModelProto:
    """A network as a simplified, checked model, opset 17."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        path = Path(folder) / "traced.onnx"
        # TensorRT 8.6 only parses graphs of the TorchScript exporter, which warns that it is deprecated.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
    _tidy(model)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tidy(model: onnx.ModelProto) -> None:
    """Turn constants into initialisers, merge equal ones, and remove nodes that change nothing."""
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    model.producer_name, model.producer_version = "sefa-edge", __version__
    graph.name = "policy"
    same_as: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.name = node.name.strip("/")
        for index, name in enumerate(node.input):
            node.input[index] = same_as.get(name, name)
        if node.op_type == "Constant":
            graph.initializer.append(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        elif node.op_type == "Identity" or (node.op_type == "Cast" and types.get(node.input[0]) == node.attribute[0].i):
            same_as[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    _merge_equal_initialisers(graph)


def _merge_equal_initialisers(graph: onnx.GraphProto) -> None:
    first: dict[tuple, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = (array.dtype.str, array.shape, array.tobytes())
        renamed[tensor.name] = first.setdefault(key, tensor.name)
        if renamed[tensor.name] == tensor.name:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
