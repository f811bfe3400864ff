"""Numbers, JSON and YAML from outside: what is refused, for every file format, and that a refusal is fast."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sefa_edge.edge.tools.inspection.checkpoint import CheckpointSummary
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.camera_profile import CameraProfile
from sefa_edge.profiles.card import PolicyCard, card_path, load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.json_text import MAX_DEPTH, JsonError, parse_json_text, read_json
from sefa_edge.profiles.latency.report import LatencyReport
from sefa_edge.profiles.quantities import NumberError, Real, Whole, parse_real, parse_whole, seed_range
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.verification import VerificationReport
from sefa_edge.profiles.yaml_text import YamlError, parse_yaml_text
from tests.gpu.gpu_report import GpuReport

SHARE = Real("a share", 0.0, 1.0)
RATE = Real("a rate", 0.0, 100.0, "Hz", above_lowest=True)
STEPS = Whole("a time", 0, 500, "us", multiple_of=2)
PROFILE = Path(__file__).parents[2] / "profiles/arms/so101_sim.yaml"
FILES: tuple[type[BaseModel], ...] = (PolicyCard, ArmProfile, CameraProfile, CheckpointSummary, VerificationReport)
REPORTS: tuple[type[BaseModel], ...] = (LatencyReport, GpuReport)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1.01, 10**400, True, "0.5", None, [0.5]])
def test_a_value_that_is_not_a_share_is_refused(value: object) -> None:
    with pytest.raises(NumberError, match=r"expected a share from 0 to 1, got "):
        SHARE.check(value)


@pytest.mark.parametrize("value", [-2, 502, 3, 10**5000, True, 4.0, math.nan, "4", None], ids=shown)
def test_a_value_that_is_not_a_register_time_is_refused(value: object) -> None:
    with pytest.raises(NumberError, match="expected a time from 0 to 500 us in steps of 2, got "):
        STEPS.check(value)


def test_a_range_may_exclude_its_lowest_value() -> None:
    with pytest.raises(NumberError, match=r"expected a rate above 0, up to 100 Hz, got 0\.0"):
        RATE.check(0.0)
    assert RATE.check(5e-324) == 5e-324
    assert isinstance(RATE.check(7), float)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**20) + 1, 10**20 - 1))
def test_numbers_that_python_writes_are_read_back(real: float, whole: int) -> None:
    assert parse_real(repr(real)) == real
    assert parse_whole(str(whole)) == whole


@pytest.mark.slow
@given(st.text())
def test_no_text_crashes_a_reader(text: str) -> None:
    for parse in (parse_real, parse_whole, parse_json_text, parse_yaml_text):
        with suppress(NumberError, JsonError, YamlError):
            parse(text)
    assert shown(text).isprintable()


def test_seeds() -> None:
    assert seed_range("0:200") == range(200)
    assert seed_range("4294967290:4294967295") == range(4294967290, 4294967295)


JSON_REFUSED = {
    "NaN": ('{"a": NaN}', "NaN is not a number"),
    "infinity": ('{"a": -Infinity}', "-Infinity is not a number"),
    "beyond a double": ('{"a": 1e400}', "'1e400' is too large"),
    "5000 digits": ('{"a": ' + "9" * 5000 + "}", "not a whole number"),
    "5000 decimals": ('{"a": 0.' + "9" * 5000 + "}", "not a decimal number"),
    "double keys": ('{"a": {"b": 1, "b": 2}}', "the key 'b' occurs twice"),
    "deep lists": ("[" * 400_000, "nested deeper than 32"),
    "deep objects": ('{"a":' * 5_000 + "1" + "}" * 5_000, "nested deeper than 32"),
    "half a surrogate pair": ('{"a": "\\ud800"}', "surrogate"),
    "half a key": ('{"\\udfff": 1}', "surrogate"),
    "cut short": ('{"a": [1, 2', "line 1 column 12"),
    "two values": ("{} {}", "Extra data"),
}


def test_an_empty_file_is_reported_as_empty(tmp_path: Path) -> None:
    (tmp_path / "file.json").touch()
    with pytest.raises(InputError, match="is not JSON: it is an empty file"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize(("text", "message"), JSON_REFUSED.values(), ids=JSON_REFUSED)
def test_invalid_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_json(path)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200 + len(str(path))


def test_json_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{\r\n  "a": "\\"[[[",\r\n  "b": [1, 2.5e-3, null, true]\r\n}\r\n')
    assert read_json(path) == {"a": '"[[[', "b": [1, 0.0025, None, True]}


@pytest.mark.slow
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_plain_json_is_read_as_python_reads_it(content: object) -> None:
    assert parse_json_text(json.dumps(content)) == content


def test_json_may_be_as_deep_as_allowed_and_have_brackets_in_text() -> None:
    assert parse_json_text("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json_text(json.dumps(["[" * 1000])) == ["[" * 1000]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
YAML_REFUSED = {
    "aliases that multiply": (LAUGHS, "line 1: anchors and aliases"),
    "an alias of itself": ("a: &a [*a]", "anchors and aliases"),
    "an anchor alone": ("a: &x 1", "anchors and aliases"),
    "a merge key": ("<<: {a: 1}", "merge keys"),
    "a tag": ("a: !!python/object/apply:os.system [ls]", "tags"),
    "a tag of a number": ('a: !!float "nan"', "tags"),
    "a key that is a number": ("1: a", "a key must be text"),
    "a key that is a list": ("? [a]\n: 1", "a key must be text"),
    "a key that is nothing": ("~: 1", "a key must be text"),
    "double keys": ("a: 1\na: 2", "line 2: the key 'a' occurs twice"),
    "two documents": ("a: 1\n---\nb: 2", "second document"),
    "NaN": ("a: .nan", "a: '.nan' is not a finite decimal number"),
    "infinity": ("a: -.inf", "a: '-.inf' is not a finite decimal number"),
    "beyond a double": ("a: 1e400", "'1e400' is too large"),
    "base 60": ("a: 1:30", "'1:30' is not a finite decimal number"),
    "base 16": ("a: 0x10", "'0x10' is not"),
    "base 8": ("a: 010", "'010' is not"),
    "underscores": ("a: 1_000", "'1_000' is not"),
    "5000 digits": ("a: " + "9" * 5000, "not a whole number"),
    "deep lists": ("a: " + "[" * 500 + "]" * 500, "nested deeper than 16"),
    "very deep lists": ("a: " + "[" * 100_000, "nest"),
    "deep blocks": ("".join(" " * i + "a:\n" for i in range(200)), "nested deeper than 16"),
    "many values": ("a: [" + "1," * 30_000 + "]", "more than 20000 values"),
    "cut short": ("a: [1, 2", "line 2: did not find expected"),
    "a control character": ("a: \x07", "control characters"),
}


@pytest.mark.parametrize(("text", "message"), YAML_REFUSED.values(), ids=YAML_REFUSED)
def test_invalid_yaml_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="not valid YAML") as caught:
        load_arm_profile(str(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200 + len(str(path))


def test_yaml_gives_plain_values() -> None:
    text = "a: [1, -2.5, 1e3, .5, true, No, null, ~, '1', off, 7.4 V]\nb: {c: , d: \"x: y\"}\ne:\n- f: 1\n"
    assert parse_yaml_text("\ufeff" + text) == {
        "a": [1, -2.5, 1000.0, 0.5, True, False, None, None, "1", "off", "7.4 V"],
        "b": {"c": None, "d": "x: y"},
        "e": [{"f": 1}],
    }


def numbers_of(schema: object) -> list[dict[str, object]]:
    """Every number in a JSON schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in numbers_of(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") in ("integer", "number") and "const" not in schema else []
    return here + [found for part in schema.values() for found in numbers_of(part)]


@pytest.mark.parametrize("model", [*FILES, *REPORTS], ids=lambda model: model.__name__)
def test_every_number_of_a_file_has_a_minimum_and_a_maximum(model: type[BaseModel]) -> None:
    found = numbers_of(model.model_json_schema())
    for number in found:
        bounded = {"minimum", "exclusiveMinimum"} & number.keys() and "maximum" in number
        assert bounded or "exclusiveMaximum" in number or "enum" in number, number
    assert found or model is CheckpointSummary


CARD_REFUSED = [
    *(
        ("timing.policy_rate_hz", text)
        for text in ("1e9", "1e-9", "0", "-10", "NaN", "Infinity", "1e999", '"10"', "true")
    ),
    *(("timing.horizon", text) for text in ("0", "-1", "16.0", "1000000", "9" * 5000)),
    *(("timing.execute_steps", text) for text in ("0", "-1", "17")),
    *(("timing.first_step_offset", text) for text in ("-1", "17", "1e0")),
    *(("provenance.seed", text) for text in ("-1", "4294967296", "1e3")),
    *(("joints.0.trained_min_deg", text) for text in ("NaN", "-1e12", "1e12", "3000")),
    *(("cameras.0.width", text) for text in ("0", "-96", "1000000")),
]


@pytest.mark.parametrize(("key", "text"), CARD_REFUSED, ids=lambda value: value[:20])
def test_a_card_with_an_invalid_number_is_refused(key: str, text: str, reach_engine: Path, tmp_path: Path) -> None:
    engine = tmp_path / reach_engine.name
    engine.write_bytes(reach_engine.read_bytes())
    content = json.loads(card_path(reach_engine).read_text())
    *path, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    part = content
    for step in path:
        part = part[step]
    part[last] = "PLACE"
    card_path(engine).write_text(json.dumps(content).replace('"PLACE"', text))
    with pytest.raises(InputError) as caught:
        load_card(engine)
    assert card_path(engine).name in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("control_rate_hz: 100.0", "control_rate_hz: 1e9"),
        ("control_rate_hz: 100.0", "control_rate_hz: 1e-9"),
        ("max_velocity_deg_s: 300.0", "max_velocity_deg_s: 1e12"),
        ("max_velocity_deg_s: 300.0", "max_velocity_deg_s: -300.0"),
        ("goal_timeout_ms: 500.0", "goal_timeout_ms: 0"),
        ("goal_timeout_ms: 500.0", "goal_timeout_ms: 1e300"),
        ("min_deg: -110.0", "min_deg: -1e12"),
        ("baud: 1000000", "baud: 1_000_000"),
        ("servo_id: 1", "servo_id: 0x1"),
        ("servo_id: 1", "servo_id: 1:01"),
    ],
)
def test_an_arm_profile_with_an_invalid_number_is_refused(old: str, new: str, tmp_path: Path) -> None:
    text = PROFILE.read_text()
    assert old in text
    path = tmp_path / "arm.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=new.partition(":")[0]):
        load_arm_profile(str(path))
