"""Every error in an external file is reported in our own wording, for every kind of error of the library."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import PolicyCard, card_path
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.problems import BOUNDS, KINDS, describe_problem
from sefa_edge.profiles.quantities import NUMBER_PROBLEM
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.strict import StrictModel, parse_json, parse_yaml, validate

JUNK: tuple[object, ...] = (None, True, -1, 10**6, 2.5, "", "word", "\x1b[2J", [], [[]], {}, {"a": 1}, "x" * 5000)
LIBRARY_PHRASES = ("Input should", "Field required", "Extra inputs", "Value error", "valid ", "String should", "List ")


def paths_in(content: object, path: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def replaced(content: Any, path: tuple[int | str, ...], value: object) -> Any:
    changed = copy.deepcopy(content)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def assert_every_damage_is_reported(content: object, model: type[StrictModel]) -> None:
    for path in paths_in(content):
        if any(isinstance(key, int) and key > 0 for key in path):
            continue  # the first entry of a list stands for the others
        for junk in JUNK:
            try:
                model.model_validate_json(json.dumps(replaced(content, path, junk)))
            except ValidationError as error:
                kinds = {problem["type"] for problem in error.errors()}
                special = {"missing", "extra_forbidden", "value_error", "assertion_error", "too_short", "too_long"}
                assert kinds <= {*KINDS, *BOUNDS, *special, NUMBER_PROBLEM}
                message, hint = describe_problem(error.errors(), model)
                assert not [phrase for phrase in LIBRARY_PHRASES if phrase in message], message
                assert hint
                assert message.isprintable()
                assert len(message) < 1000


@pytest.mark.slow
def test_every_damage_of_a_card_is_reported(reach_engine: Path) -> None:
    assert_every_damage_is_reported(json.loads(card_path(reach_engine).read_text()), PolicyCard)


@pytest.mark.slow
def test_every_damage_of_an_arm_profile_is_reported() -> None:
    assert_every_damage_is_reported(load_arm_profile("so101").model_dump(mode="json"), ArmProfile)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, "name: 3 is not text"),
        ("task", None, "task: null is not text"),
        ("schema_version", 9, "schema_version: 9 is not one of 2"),
        ("strongly_typed", "yes", "strongly_typed: 'yes' is not true or false"),
        ("opset", "18", "opset: expected an opset from 13 to 30, got '18'"),
        ("cameras", {}, "cameras: an object with keys is not a list"),
        ("joints", [], "joints: 0 entries, expected at least 1"),
        ("timing", 5, "timing: 5 is not an object with keys"),
        ("format", "keras", "format: 'keras' is not one of 'onnx'"),
    ],
)
def test_a_message_names_key_found_and_expected(key: str, value: object, message: str, reach_engine: Path) -> None:
    content = json.loads(card_path(reach_engine).read_text()) | {key: value}
    with pytest.raises(InputError) as caught:
        validate(Path("model.json"), content, PolicyCard)
    assert str(caught.value).startswith(f"model.json: {message}")
    assert caught.value.hint


def test_an_unknown_key_suggests_another_one(tmp_path: Path) -> None:
    profile = load_arm_profile("so101").model_dump(mode="json")
    for key, place in (("joints", profile["joints"][0]), ("name", profile["safety"]), ("velocty", profile)):
        place[key] = 1
        path = tmp_path / "arm.yaml"
        path.write_text(yaml.safe_dump(profile))
        with pytest.raises(InputError, match="unknown key") as caught:
            parse_yaml(path, ArmProfile)
        assert f"'{key}'" not in caught.value.hint
        del place[key]


def test_a_file_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[1]")
    with pytest.raises(InputError, match="the file: a list of 1 is not an object with keys"):
        parse_json(tmp_path / "model.json", PolicyCard)


def test_a_byte_order_mark_is_accepted(tmp_path: Path, reach_engine: Path) -> None:
    content = card_path(reach_engine).read_bytes()
    (tmp_path / "model.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert parse_json(tmp_path / "model.json", PolicyCard).name == "reach"
