"""The libraries that build and run plans: their names, their Python modules, and how to install them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class PlanLibrary:
    """One library."""

    title: str
    modules: tuple[str, str]
    """JetPack and the full package install the first, packages with only the bindings the second."""
    install_hint: str

    def installed_module(self) -> str | None:
        """Name of the installed module, not imported; None if there is none."""
        return next((name for name in self.modules if find_spec(name) is not None), None)


PLAN_LIBRARIES = {
    "tensorrt": PlanLibrary(
        "TensorRT",
        ("tensorrt", "tensorrt_bindings"),
        "it comes with JetPack: sudo apt-get install python3-libnvinfer, and a virtual environment made with"
        " --system-site-packages; elsewhere: pip install tensorrt",
    ),
    "tensorrt_rtx": PlanLibrary(
        "TensorRT-RTX",
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs",
    ),
}
"""By the `format` of a policy card."""
