"""Maps the repository's top-level folders to the package `sefa_edge`; metadata lives in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = ("edge", "export", "firmware_bridge", "models", "profiles")

setup(
    packages=["sefa_edge"]
    + [
        f"sefa_edge.{package}"
        for folder in FOLDERS
        for package in find_packages(include=[folder, f"{folder}.*"], exclude=["edge._root"])
    ],
    package_dir={"sefa_edge": "edge/_root", **{f"sefa_edge.{folder}": folder for folder in FOLDERS}},
    package_data={
        "sefa_edge": ["py.typed"],
        "sefa_edge.edge": ["shipped/*/*.onnx", "shipped/*/*.json"],
        "sefa_edge.edge.tools.bench_loop": ["*.c"],
        "sefa_edge.firmware_bridge": ["udev/*.rules"],
        "sefa_edge.profiles": ["**/*.yaml", "**/*.json", "**/*.html", "page/*.css"],
    },
)
