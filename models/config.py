"""Settings of networks and training, stored in every checkpoint as JSON and validated on reading."""

from __future__ import annotations

from typing import Annotated, Literal

from sefa_edge.profiles.quantities import Count, Fraction, NotNegative, Positive, Seed, Whole
from sefa_edge.profiles.strict import StrictModel

Size = Annotated[int, Whole("a size", 1, 65_536)]


class NetworkConfig(StrictModel):
    """Shapes and sizes of one policy network.

    `small` (default) fits a CPU: four plain convolutions with spatial softmax and an MLP velocity net. `paper` is
    Diffusion Policy's ResNet-18 with GroupNorm and conditional 1-D U-Net, the networks of arXiv 2511.08583.
    """

    vision: Literal["small", "resnet18"] = "small"
    velocity: Literal["mlp", "unet1d"] = "mlp"
    cameras: tuple[str, ...]
    height: Size
    width: Size
    joints: Size
    horizon: Size = 16
    n_obs_steps: Size = 1
    keypoints: Size = 32
    time_features: Size = 64
    mlp_width: Size = 256
    mlp_blocks: Size = 4
    unet_channels: tuple[Size, ...] = (128, 256, 512)


class BaseConfig(StrictModel):
    """Stage 1: rectified flow on demonstrations."""

    steps: Count = 16_000
    batch: Count = 64
    noises_per_window: Count = 8
    learning_rate: Positive = 6e-4
    warmup_steps: Count = 500
    weight_decay: NotNegative = 1e-4
    ema_decay: Fraction = 0.999
    joint_noise_deg: NotNegative = 0.5
    """Noise on the measured joints, so that the policy relies on the image rather than on its own past."""


class PairConfig(StrictModel):
    """Stage 2: (noise, chunk) pairs, and the selective alignment of their chunks."""

    noises_per_window: Count = 8
    euler_steps: Count = 20
    replaced_quantile: Fraction = 0.5
    """Chunks closer to the demonstration than this quantile of all distances are replaced by it (0: plain reflow)."""


class StudentConfig(StrictModel):
    """Stage 3: the one-step student."""

    steps: Count = 16_000
    batch: Count = 512
    learning_rate: Positive = 4e-4
    warmup_steps: Count = 200
    weight_decay: NotNegative = 1e-4
    ema_decay: Fraction = 0.999
    start_share: Fraction = 0.5
    """Fraction of samples at t = 0, where the single Euler step is taken; the rest is uniform in t."""


class TrainConfig(StrictModel):
    """All three stages; the same configuration, dataset and seed give the same policy on one machine."""

    seed: Seed = 0
    network: NetworkConfig
    base: BaseConfig = BaseConfig()
    pairs: PairConfig = PairConfig()
    student: StudentConfig = StudentConfig()
