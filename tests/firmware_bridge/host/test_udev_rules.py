"""The udev rules parse, name exactly the adapters that the program knows, and are complete."""

from __future__ import annotations

import re

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.host.serial_adapter import CHIPS
from sefa_edge.firmware_bridge.host.udev_rules import RULES_FILE, udev_rules

TOKEN = re.compile(r'\s*(?P<key>[A-Z]+(?:\{[^}]+\})?)(?P<operator>==|!=|\+=|=)"(?P<value>[^"]*)"\s*(?:,|$)')
MATCHES = {"ACTION", "SUBSYSTEM", "SUBSYSTEMS", "DRIVER", "KERNEL", "ENV", "ATTR", "ATTRS"}
ASSIGNMENTS = {"ENV", "ATTR", "GROUP", "MODE", "TAG", "SYMLINK", "OPTIONS", "GOTO", "LABEL"}
Rule = list[tuple[str, str, str]]


def rules() -> list[Rule]:
    """Every rule as its tokens; a line that udev could not parse fails here."""
    lines = [line for line in udev_rules().splitlines() if line and not line.startswith("#")]
    parsed = []
    for line in lines:
        tokens, at = [], 0
        while at < len(line):
            token = TOKEN.match(line, at)
            assert token, f"{line}: not understood from column {at}"
            tokens.append((token["key"], token["operator"], token["value"]))
            at = token.end()
        parsed.append(tokens)
    return parsed


def value_of(rule: Rule, key: str) -> str:
    return next((value for name, _, value in rule if name == key), "")


def test_every_key_has_an_operator_that_it_supports() -> None:
    for rule in rules():
        for key, operator, _ in rule:
            allowed = MATCHES if operator in ("==", "!=") else ASSIGNMENTS
            assert key.split("{")[0] in allowed, f"{key}{operator} in {rule}"


def test_every_goto_leads_forwards_to_a_label() -> None:
    labels: set[str] = set()
    for rule in reversed(rules()):
        target = value_of(rule, "GOTO")
        assert not target or target in labels
        labels.add(value_of(rule, "LABEL"))


@pytest.mark.parametrize("attribute", ["ATTR", "ATTRS"])
def test_the_rules_name_exactly_the_known_adapters(attribute: str) -> None:
    named = {
        (value_of(rule, f"{attribute}{{idVendor}}"), product)
        for rule in rules()
        for product in value_of(rule, f"{attribute}{{idProduct}}").split("|")
        if product
    }
    assert named == set(CHIPS)


def test_the_rules_set_permissions_latency_and_links() -> None:
    done = {(key, operator, value) for rule in rules() for key, operator, value in rule if operator in ("=", "+=")}
    assert {
        ("GROUP", "=", "dialout"),
        ("MODE", "=", "0660"),
        ("TAG", "+=", "uaccess"),
        ("ATTR{latency_timer}", "=", "1"),
        ("ENV{ID_MM_DEVICE_IGNORE}", "=", "1"),
        ("ENV{ID_MM_PORT_IGNORE}", "=", "1"),
    } <= done
    links = [value for key, _, value in done if key == "SYMLINK"]
    assert sorted(links) == ["sefa-edge/$attr{serial}", "sefa-edge/usb-$id"]


def test_the_file_sorts_before_the_one_that_gives_access_to_the_seat() -> None:
    assert RULES_FILE.name < "73-seat-late.rules"


def test_the_command_prints_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["arm", "scan", "--udev-rules"]) == 0
    assert capsys.readouterr().out == udev_rules()
