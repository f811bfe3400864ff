"""The benchmark of the servo bus as a program: the measurement of our driver, and its error messages."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "profiles" / "benchmarks" / "arm_bus.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_our_driver_is_measured_against_the_wire(tmp_path: Path) -> None:
    report = tmp_path / "bus.json"
    done = run("--only", "sefa-edge", "--cycles", "20", "--rounds", "1", "--json", str(report))
    assert done.returncode in (0, 1), done.stderr
    content = json.loads(report.read_text())
    assert content["wire_ns"] == 1_960_000
    assert [turn["client"] for turn in content["turns"]] == ["sefa-edge"]
    assert content["targets"][0]["name"] == "cycle to the wire's time"
    assert (done.returncode == 0) == all(target["met"] for target in content["targets"])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("rustypot") is not None, reason="rustypot is installed here")
def test_a_client_that_is_not_installed_is_named() -> None:
    done = run("--only", "sefa-edge", "rustypot", "--cycles", "10", "--rounds", "1")
    assert done.returncode == 4
    assert "error: rustypot cannot be imported" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--cycles", "1"), ("--rounds", "0"), ("--only", "rustypot")])
def test_wrong_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
