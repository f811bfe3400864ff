"""The example in `firmware_bridge/README.md` runs as printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host.errors import ArmTimeout

README = Path(__file__).parents[3] / "firmware_bridge" / "README.md"
ATTEMPTS = 10


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = README.read_text().split("```python\n")[1].split("```")[0]
    for attempt in range(ATTEMPTS):
        try:
            exec(compile(example, str(README), "exec"), {})
            break
        except ArmTimeout:  # the servos are simulated in a thread, which may answer late on a busy machine
            if attempt == ATTEMPTS - 1:
                raise
    assert "[ 0.  0.  0.  0.  0. 50.]" in capsys.readouterr().out
