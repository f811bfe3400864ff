"""Lists functions, methods, properties, classes and constants that no program of ours uses; tests do not count as use.

    python .ci/unused.py

Exceptions stand in `vulture_exceptions.py`, each with its reason; one that is no longer needed is an error as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import vulture
from vulture_exceptions import EXCEPTIONS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("edge", "export", "firmware_bridge", "models", "profiles")
KINDS = ("class", "function", "import", "method", "property")
DECORATORS = ["@model_validator*", "@field_validator*", "@model_serializer*"]
TABLES = ("firmware_bridge/host/feetech/registers.py", "edge/cameras/v4l2/structures.py")
"""Constants that are a table of somebody else's, kept whole."""


def main() -> int:
    """1 when something is unused, or an exception is."""
    found = vulture.Vulture(ignore_decorators=DECORATORS)
    found.scavenge([str(ROOT / folder) for folder in FOLDERS])
    unused = [item for item in found.get_unused_code() if _counts(item)]
    for item in unused:
        if item.name not in EXCEPTIONS:
            print(f"{item.filename}:{item.first_lineno}: unused {item.typ} '{item.name}'")
    needless = EXCEPTIONS.keys() - {item.name for item in unused}
    for name in sorted(needless):
        print(f"vulture_exceptions.py: '{name}' is used or gone: take it out")
    return int(bool(needless) or any(item.name not in EXCEPTIONS for item in unused))


def _counts(item: vulture.core.Item) -> bool:
    if item.typ == "variable":
        return item.name.isupper() and not str(item.filename).endswith(TABLES)
    return item.typ in KINDS


if __name__ == "__main__":
    sys.exit(main())
