"""The exported graph computes the trained network, in every form and for every number of Euler steps."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch

from sefa_edge.export.graph.inference_network import GraphForm
from sefa_edge.export.graph.to_onnx import example_inputs, policy_graph
from sefa_edge.export.session import run_chunks
from sefa_edge.models.config import NetworkConfig
from sefa_edge.models.policy import EnginePolicy, FlowPolicy

MLP = NetworkConfig(cameras=("front",), height=48, width=48, joints=6, horizon=8, mlp_width=32, mlp_blocks=2)
PAPER = MLP.model_copy(
    update={
        "cameras": ("front", "side"),
        "n_obs_steps": 2,
        "vision": "resnet18",
        "velocity": "unet1d",
        "unet_channels": (16, 32, 64),
        "time_features": 16,
    }
)
FORMS = [GraphForm(*form) for form in product(("fused", "separate"), ("conv2d", "conv1d"), ("instance", "reduce"))]
NEVER = {
    "RandomNormal",
    "RandomNormalLike",
    "Where",
    "Loop",
    "If",
    "Shape",
    "NonZero",
    "Identity",
    "Constant",
    "Expand",
}


def _policy(config: NetworkConfig) -> FlowPolicy:
    torch.manual_seed(0)
    policy = FlowPolicy(config).eval()
    policy.joint_range.fit(torch.tensor([[-40.0] * 6, [60.0] * 6]))
    policy.action_range.fit(torch.tensor([[-50.0] * 6, [70.0] * 6]))
    for parameter in policy.parameters():  # initial biases are zero, which would hide a lost one
        parameter.data += 0.02 * torch.randn_like(parameter)
    return policy


def _largest_difference(policy: FlowPolicy, calls: int, model: onnx.ModelProto) -> float:
    network = EnginePolicy(policy, calls).eval()
    samples = [example_inputs(policy.config, seed) for seed in range(3)]
    with torch.no_grad():
        expected = np.stack([network(*sample.values()).numpy() for sample in samples])
    actual = run_chunks(model, [{name: tensor.numpy() for name, tensor in sample.items()} for sample in samples])
    return float(np.abs(actual - expected).max())


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("form", [GraphForm(), GraphForm(film="separate")], ids=["fused", "separate"])
def test_the_graph_of_the_small_network_is_equivalent(form: GraphForm, calls: int) -> None:
    policy = _policy(MLP)
    assert _largest_difference(policy, calls, policy_graph(policy, calls, form)) < 1e-3


@pytest.mark.parametrize(("form", "calls"), [*((form, 1) for form in FORMS), (GraphForm(), 2)])
def test_the_graph_of_the_papers_network_is_equivalent(form: GraphForm, calls: int) -> None:
    policy = _policy(PAPER)
    assert _largest_difference(policy, calls, policy_graph(policy, calls, form)) < 1e-3


def test_every_form_has_its_operators() -> None:
    policy = _policy(PAPER)

    def operators(form: GraphForm) -> list[str]:
        return [node.op_type for node in policy_graph(policy, 1, form).graph.node]

    assert operators(GraphForm()).count("Gemm") < operators(GraphForm(film="separate")).count("Gemm")
    assert "InstanceNormalization" not in operators(GraphForm(group_norm="reduce"))
    ranks = {form: _kernel_ranks(policy, GraphForm(conv1d=form)) for form in ("conv2d", "conv1d")}
    assert ranks == {"conv2d": {4}, "conv1d": {3, 4}}  # the encoder's are 2-D in both


def _kernel_ranks(policy: FlowPolicy, form: GraphForm) -> set[int]:
    graph = policy_graph(policy, 1, form).graph
    kernels = {node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")}
    return {len(tensor.dims) for tensor in graph.initializer if tensor.name in kernels}


@pytest.mark.parametrize("config", [MLP, PAPER], ids=["small", "paper"])
def test_the_graph_is_static_and_without_redundant_operators(config: NetworkConfig) -> None:
    policy = _policy(config)
    graph = policy_graph(policy, 2, GraphForm()).graph
    assert not {node.op_type for node in graph.node} & NEVER
    for value in (*graph.input, *graph.value_info, *graph.output):
        assert all(dimension.dim_value > 0 for dimension in value.type.tensor_type.shape.dim), value.name
    images = {value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    assert len(images) == len(config.cameras)
    readers = [node.op_type for node in graph.node if images & set(node.input)]
    assert set(readers) == {"Cast"}  # TensorRT supports nothing else with uint8


def test_steps_share_encoder_and_condition() -> None:
    policy = _policy(MLP)
    convolutions = [
        sum(node.op_type == "Conv" for node in policy_graph(policy, calls, GraphForm()).graph.node) for calls in (1, 4)
    ]
    assert convolutions[0] == convolutions[1]
