"""The udev rules of the package: access, stable names, latency, no modem probes."""

from __future__ import annotations

from pathlib import Path

RULES_FILE = Path(__file__).resolve().parents[1] / "udev" / "60-sefa-edge.rules"


def udev_rules() -> str:
    """The text of the rules file."""
    return RULES_FILE.read_text(encoding="utf-8")
