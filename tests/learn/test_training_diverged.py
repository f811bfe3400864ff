"""A training that diverged ends in one line with exit code 1, and leaves no checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sefa_edge.profiles.errors import SefaError

pytest.importorskip("torch")


@pytest.mark.learn
def test_a_loss_that_is_not_finite_writes_no_checkpoint(tmp_path: Path) -> None:
    from sefa_edge.models.command import TrainingRun

    run = TrainingRun(tmp_path, cast(Any, SimpleNamespace()), cast(Any, SimpleNamespace()))
    unused = cast(Any, None)
    with pytest.raises(SefaError, match="diverged: its loss is nan") as caught:
        run._save(unused, "base", "base", unused, float("nan"), 1.0, None)
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())
