"""A control process on a simulated arm, for tests without an injected fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.control_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    bench = Rig(tmp_path)
    try:
        yield bench
    finally:
        bench.close()
