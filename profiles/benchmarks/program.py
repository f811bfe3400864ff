"""Shared by the benchmark programs: writing results, and errors as one `error:` and one `hint:` line.

Not a program. The programs beside it import it by its name, because the folder of a program is on the path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sefa_edge.profiles import console
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.files import make_folder, write_report
from sefa_edge.profiles.latency.environment import describe_environment


def keep(path: Path | None, content: Mapping[str, object]) -> None:
    """Write the measurements and a description of the machine as JSON; None: do not. Raises InputError."""
    if path is not None:
        make_folder(path.parent)
        environment = {"environment": describe_environment().model_dump(mode="json")}
        write_report(str(path), json.dumps({**content, **environment}, indent=1) + "\n")


def run_program(main: Callable[[Sequence[str]], int]) -> None:
    """Call `main` with the command-line arguments and exit with its exit code, or with that of its error."""
    console.install()
    try:
        raise SystemExit(main(sys.argv[1:]))
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
