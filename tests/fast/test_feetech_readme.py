"""The example in `firmware_bridge/README.md` runs as printed."""

from __future__ import annotations

from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "firmware_bridge" / "README.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = README.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(example, str(README), "exec"), {})
    assert "[ 0.  0.  0.  0.  0. 50.]" in capsys.readouterr().out
