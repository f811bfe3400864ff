"""`sefa-edge build`: build a TensorRT plan from an ONNX engine, on the device that will run it. Needs no torch."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sefa_edge.export.plan.build_child import build, describe
from sefa_edge.export.plan.build_choice import PlanRecipe, choose_plan_recipe, find_sources, target_of
from sefa_edge.export.plan.build_messages import Backend, BuildRequest, DescribeRequest, LibraryEvent, Precision
from sefa_edge.export.plan.build_place import Place, find_place, plan_spec
from sefa_edge.export.plan.tensorrt_builder import missing_library
from sefa_edge.export.plan.timing_cache import timing_cache_path
from sefa_edge.profiles.card import PolicyCard, save_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import path_argument, sha256_of, staged, writable
from sefa_edge.profiles.home import cache_folder
from sefa_edge.profiles.onnxfile.reader import load_onnx
from sefa_edge.profiles.onnxfile.rules import require_rules
from sefa_edge.profiles.plan_libraries import PLAN_LIBRARIES
from sefa_edge.profiles.quantities import OPTIMISATION_LEVEL, WORKSPACE_MIB

BACKENDS: dict[str, Backend] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True, slots=True)
class Builder:
    """The settings that all plans of one command share."""

    backend: Backend
    library: LibraryEvent
    place: Place
    workspace_mib: int
    optimisation_level: int
    timing_cache: Path

    def build(self, recipe: PlanRecipe, plan: Path) -> PolicyCard:
        """Build one plan with its card and log; after an error the old plan is kept.

        Raises:
            SefaError: the model is refused, or does not build; the log next to the plan has the details.
        """
        require_rules(load_onnx(recipe.source.onnx), target_of(self.library.version))
        with staged(plan) as temporary:
            request = self._request(recipe, temporary)
            built = build(request, log_path(plan), f"building {recipe.label}")
            card = self._card(recipe, request, built.seconds).model_copy(
                update={"engine_file": plan.name, "engine_sha256": sha256_of(temporary)}
            )
        save_card(card, plan)
        return card

    def _request(self, recipe: PlanRecipe, plan: Path) -> BuildRequest:
        gpu = self.place.gpu
        key = (self.backend, self.library.version, gpu.name, gpu.compute_capability) if gpu else ()
        cache = timing_cache_path(self.timing_cache, *key, self.place.power_mode or "none")
        return BuildRequest(
            backend=self.backend,
            onnx=str(recipe.source.onnx.resolve()),
            onnx_sha256=recipe.source.card.engine_sha256,
            plan=str(plan.resolve()),
            precision=recipe.precision,
            strongly_typed=recipe.strongly_typed,
            workspace_mib=self.workspace_mib,
            optimisation_level=self.optimisation_level,
            timing_cache=str(cache) if self.backend == "tensorrt" else None,  # TensorRT-RTX ignores it
            compute_capabilities=list(self.place.targets) or self._this_gpu(),
        )

    def _this_gpu(self) -> list[str]:
        """TensorRT always builds for this GPU; for TensorRT-RTX an empty list would mean every GPU."""
        return ["CURRENT"] if self.backend == "tensorrt_rtx" else []

    def _card(self, recipe: PlanRecipe, request: BuildRequest, seconds: float) -> PolicyCard:
        card = recipe.source.card
        return PolicyCard.model_validate(
            {
                **card.model_dump(),
                "format": self.backend,
                "precision": recipe.precision,
                "strongly_typed": recipe.strongly_typed,
                "gate": None,  # was measured with the ONNX file, not with this plan
                "plan": {
                    **plan_spec(self.place, request, self.library.version, seconds).model_dump(),
                    "onnx_gate": card.gate and card.gate.model_dump(),
                },
            }
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=path_argument, metavar="MODEL.onnx|FOLDER", help="an ONNX engine, or an export folder"
    )
    parser.add_argument(
        "-o", "--output", type=path_argument, required=True, metavar="model.plan", help="the plan to write"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "int8"),
        default="auto",
        help="auto: that of the model; from a folder, the matching flavour is used",
    )
    parser.add_argument("--backend", choices=tuple(BACKENDS), default="tensorrt", help="which library builds")
    parser.add_argument(
        "--compute-capability",
        nargs="+",
        default=[],
        metavar="SM",
        help="TensorRT-RTX: build for these GPUs, e.g. SM86 SM120, without having one",
    )
    parser.add_argument(
        "--workspace-mib", type=WORKSPACE_MIB.parse, default=256, help="memory limit for a kernel during selection"
    )
    parser.add_argument(
        "--optimisation-level", type=OPTIMISATION_LEVEL.parse, default=3, metavar="N", help="0 to 5; 5 searches longest"
    )
    parser.add_argument(
        "--timing-cache",
        type=path_argument,
        default=cache_folder() / "timing",
        metavar="DIR",
        help="measured kernel times, kept between builds",
    )
    parser.add_argument(
        "--choose", choices=("fastest",), help="build every flavour of a folder and keep the fastest within the budget"
    )
    parser.add_argument(
        "--dataset", type=path_argument, metavar="D", help="demonstrations on which --choose compares the flavours"
    )


def main(arguments: argparse.Namespace) -> int:
    output = _checked_output(arguments)
    backend = BACKENDS[arguments.backend]
    if PLAN_LIBRARIES[backend].installed_module() is None:
        raise missing_library(backend)
    sources = find_sources(arguments.model)
    library = describe(DescribeRequest(backend=backend), log_path(output))
    builder = Builder(
        backend=backend,
        library=library,
        place=find_place(backend, library, arguments.compute_capability),
        workspace_mib=arguments.workspace_mib,
        optimisation_level=arguments.optimisation_level,
        timing_cache=arguments.timing_cache,
    )
    if arguments.choose:
        from sefa_edge.export.plan.fastest import choose_fastest  # brings numpy

        chosen = choose_fastest(builder, sources, arguments.dataset, output)
        print(chosen.table)
        if chosen.card is None:
            print("no plan is within the error budget; none was kept", file=sys.stderr)
            return ExitCode.FAILED
        card = chosen.card
    else:
        precision = None if arguments.precision == "auto" else cast(Precision, arguments.precision)
        card = builder.build(choose_plan_recipe(sources, library, precision), output)
    print(_summary(card, output))
    return 0


def log_path(plan: Path) -> Path:
    return plan.with_name(plan.name + ".log")


def _checked_output(arguments: argparse.Namespace) -> Path:
    if arguments.output.suffix != ".plan":
        raise InputError(f"{arguments.output} does not end in .plan", "name it model.plan")
    if (arguments.choose is None) != (arguments.dataset is None):
        raise InputError("--choose fastest and --dataset belong together", "give both or neither")
    if arguments.choose and not arguments.model.is_dir():
        raise InputError("--choose fastest compares the flavours of a folder", "give the export folder")
    if arguments.dataset and not arguments.dataset.is_dir():
        raise InputError(f"{arguments.dataset} is not a dataset", "give the folder of a LeRobot dataset")
    return writable(arguments.output)


def _summary(card: PolicyCard, plan: Path) -> str:
    assert card.plan is not None
    typing = "strongly typed" if card.strongly_typed else "weakly typed"
    size_mb, target = plan.stat().st_size / 1e6, card.plan.gpu_name
    library = f"{PLAN_LIBRARIES[card.format].title} {card.plan.library_version}"
    return (
        f"{plan}: {size_mb:.1f} MB, {card.precision}, {typing}, {library} for {target}, {card.plan.build_seconds:.1f} s"
    )
