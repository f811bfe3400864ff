"""Any record comes back bit for bit from bytes and from JSON; anything else is refused with one kind of error."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import (
    ActionChunk,
    Inference,
    InferenceBegun,
    PolicyCommand,
    PolicyReport,
    Trouble,
)
from sefa_edge.edge.ipc.record_header import HEADER, VERSION, Kind, RecordError
from sefa_edge.edge.ipc.record_json import from_json, schema_of, to_json
from sefa_edge.edge.ipc.records import (
    ArmOpened,
    ControlCommand,
    EmergencyReceived,
    Final,
    Heartbeat,
    JointSample,
    MayHold,
    Ready,
    TickReport,
)
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.tick_trace import TickTrace
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.video_command import VideoCommand
from sefa_edge.edge.ipc.vocabulary import Command, Mode, Progress
from sefa_edge.edge.ipc.wire_record import WireRecord, layout_of, pack_fields, unpack_fields, wire_record
from sefa_edge.edge.recording.field_tables import table_of
from sefa_edge.edge.recording.topics import Losses, Picture
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.wire_types import F32, I64, U8, U16, Many, Scalar
from tests.property.record_values import records, same

RECORDS: tuple[type[WireRecord], ...] = (
    ActionChunk, ArmOpened, ControlCommand, EmergencyReceived, VideoCommand, Final, FrameDescriptor, Heartbeat,
    Inference, InferenceBegun, JointSample, MayHold, PolicyCommand, PolicyReport, Ready, RunEvent, TickReport,
    TickTrace, Trouble,
)  # fmt: skip
MESSAGES: tuple[type, ...] = (*RECORDS, Losses, Picture)


def test_every_kind_has_one_record_and_every_record_is_tested_here() -> None:
    known = {cls for cls in WireRecord.__subclasses__() if cls.__module__.startswith("sefa_edge.")}
    assert {cls for cls in known if "kind" in vars(cls)} == set(RECORDS)
    assert sorted(cls.kind for cls in RECORDS) == sorted(Kind)


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_record_comes_back_from_bytes(cls: type[WireRecord], data: st.DataObject) -> None:
    record = data.draw(records(cls))
    assert same(cls.unpack(record.pack()), record)


@pytest.mark.parametrize("cls", MESSAGES)
@given(data=st.data())
@settings(max_examples=25)
def test_a_record_comes_back_from_json(cls: type, data: st.DataObject) -> None:
    record = data.draw(records(cls))
    content = to_json(record)
    again = from_json(content, cls, "/topic")
    assert same(again, record)
    assert to_json(again) == content
    assert set(json.loads(content)) == set(schema_of(cls)["properties"])  # type: ignore[call-overload]


@pytest.mark.once
@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@settings(max_examples=40)
def test_damaged_bytes_are_refused_or_a_record(cls: type[WireRecord], data: st.DataObject) -> None:
    record = bytearray(data.draw(records(cls)).pack())
    for place in data.draw(st.lists(st.integers(0, len(record) - 1), max_size=4)):
        record[place] = data.draw(st.integers(0, 255))
    cut = bytes(record[: data.draw(st.integers(0, len(record)))])
    longer = HEADER.pack(cls.kind, VERSION, len(record) + 1) + bytes(record[HEADER.size :]) + b"\0"
    for candidate in (bytes(record), cut, longer, sealed(cls.kind, cut)):
        with suppress(RecordError):
            assert isinstance(cls.unpack(candidate), cls)
    with pytest.raises(RecordError):
        cls.unpack(longer[:-1])


@pytest.mark.parametrize("cls", RECORDS)
@given(body=st.binary(max_size=300))
@settings(max_examples=40)
def test_noise_under_a_good_header_is_refused_or_a_record(cls: type[WireRecord], body: bytes) -> None:
    with suppress(RecordError):
        assert isinstance(cls.unpack(sealed(cls.kind, body)), cls)
    with pytest.raises(RecordError):
        cls.unpack(body)


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**400), st.just("\ud800")
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places_in(content: object) -> list[tuple[Any, Any]]:
    """Every (container, key) in JSON."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in inner for place in ((content, key), *places_in(value))]


@pytest.mark.once
@pytest.mark.parametrize("cls", MESSAGES)
@given(data=st.data())
@settings(max_examples=60)
def test_damaged_json_is_refused_or_a_record(cls: type, data: st.DataObject) -> None:
    content = json.loads(to_json(data.draw(records(cls))))
    container, key = data.draw(st.sampled_from(places_in(content)))
    if data.draw(st.booleans()):
        container[key] = data.draw(JSON_VALUES)
    elif data.draw(st.booleans()) and isinstance(container, dict):
        container[key + "_more"] = container[key]
    else:
        del container[key]
    with suppress(InputError):
        again = from_json(json.dumps(content).encode(), cls, "/topic")
        to_json(again)  # anything accepted can be written again


@pytest.mark.parametrize("cls", MESSAGES)
@given(content=st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,0123456789truefalsenull')).map(str.encode))
@settings(max_examples=40)
def test_noise_is_refused_as_damaged_json(cls: type, content: bytes) -> None:
    with pytest.raises(InputError, match=r"a message of /topic is damaged: "):
        from_json(content, cls, "/topic")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b"[],".join([b"[", *[b""] * 400_000, b"0]"]),
        b'{"stamp_ns":' + b"9" * 5000 + b"}",
        b'{"stamp_ns":NaN}',
        b"\xff",
    ],
)
def test_json_that_breaks_parsers_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        from_json(content, Heartbeat, "/topic")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


class Colour(IntEnum):
    RED = 1
    BLUE = 7


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lamp."""

    colour: Annotated[Colour, U8]
    """What it shows."""
    brightness_pct: Annotated[np.ndarray, F32["n"]]
    """Of each bulb."""


@wire_record(Kind.TICK)
@dataclass(frozen=True, slots=True, eq=False)
class Before(WireRecord):
    """A record."""

    stamp_ns: Annotated[int, I64]
    """When it was."""
    lamps: Annotated[tuple[Lamp, ...], Many(4)]
    """All of them."""


@wire_record(Kind.TICK)
@dataclass(frozen=True, slots=True, eq=False)
class After(WireRecord):
    """The record with one more field."""

    stamp_ns: Annotated[int, I64]
    """When it was."""
    lamps: Annotated[tuple[Lamp, ...], Many(4)]
    """All of them."""
    bulb_ticks: Annotated[np.ndarray, Scalar("i")["n"]]
    """Age of each bulb."""


def lamp(bulbs: int = 2) -> Lamp:
    return Lamp(Colour.BLUE, np.arange(bulbs, dtype=np.float32))


def test_one_declared_field_reaches_bytes_json_schema_and_table() -> None:
    before = Before(5, (lamp(),))
    after = After(5, (lamp(),), np.array([3, 4], np.int32))
    assert len(after.pack()) == len(before.pack()) + 2 * 4
    assert same(After.unpack(after.pack(), n=2), after)
    assert json.loads(to_json(after)) == json.loads(to_json(before)) | {"bulb_ticks": [3, 4]}
    assert same(from_json(to_json(after), After, "/lamps"), after)
    properties = schema_of(After)["properties"]
    added = {"bulb_ticks": {"type": "array", "items": {"type": "integer"}}}
    assert properties == schema_of(Before)["properties"] | added  # type: ignore[operator]
    assert table_of(After) == [*table_of(Before), "| `bulb_ticks` | int32 [n] | Age of each bulb. |"]


def test_a_record_without_a_new_field_is_refused() -> None:
    with pytest.raises(RecordError):
        After.unpack(Before(5, (lamp(),)).pack())
    with pytest.raises(InputError, match="the key bulb_ticks is missing"):
        from_json(to_json(Before(5, ())), After, "/lamps")


def test_dimensions_agree_across_a_record_and_with_what_the_receiver_expects() -> None:
    after = After(5, (lamp(),), np.zeros(2, np.int32))
    with pytest.raises(RecordError, match="n = 2, expected 3"):
        After.unpack(after.pack(), n=3)
    with pytest.raises(RecordError, match=r"shape \(3,\), expected \(2,\)"):
        replace(after, lamps=(lamp(3),)).pack()
    uneven = json.loads(to_json(after))
    uneven["lamps"][0]["brightness_pct"].append(1.0)
    with pytest.raises(InputError, match=r"lamps: brightness_pct: 3 entries, expected 2|bulb_ticks: 2 entries"):
        from_json(json.dumps(uneven).encode(), After, "/lamps")
    with pytest.raises(InputError, match="2 entries, expected 6"):
        from_json(to_json(after), After, "/lamps", n=6)


def test_more_than_the_declared_number_is_refused() -> None:
    with pytest.raises(RecordError, match="5 entries, expected at most 4"):
        Before(5, (lamp(),) * 5).pack()
    content = json.dumps({"stamp_ns": 5, "lamps": [json.loads(to_json(lamp()))] * 5})
    with pytest.raises(InputError, match="5 entries, expected at most 4"):
        from_json(content.encode(), Before, "/lamps")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, True, "5", None, [5]])
def test_a_whole_number_stays_in_its_range(value: object) -> None:
    with pytest.raises(InputError, match=r"stamp_ns: .* is not a whole number from -9223372036854775808"):
        from_json(json.dumps({"stamp_ns": value}).encode(), Heartbeat, "/topic")
    if isinstance(value, int) and not isinstance(value, bool):
        with pytest.raises(RecordError, match="a HEARTBEAT record cannot be packed"):
            Heartbeat(value).pack()


@pytest.mark.parametrize("number", [1e39, -1e300])
def test_a_number_too_large_for_single_precision_is_refused(number: float) -> None:
    with pytest.raises(InputError, match="too large for single precision"):
        from_json(json.dumps({"stamp_ns": 1, "joint_deg": [number]}).encode(), JointSample, "/topic")


def test_members_of_several_enums_keep_their_enum() -> None:
    values = (Command.ARM, Progress.SETTLED, Fault.SUPERVISOR_LOST)  # all three are 1
    nothing = np.zeros(1, np.float32)
    report = TickReport(
        0, 0, 0, (0,) * 5, 0, 0, -1, -1, -1, Mode.IDLE, True, Fault.NONE, 0, 0, joint_deg=nothing, goal_deg=nothing
    )
    again = TickTrace.unpack(TickTrace(0, values, -1, -1, (), (), None, report).pack())
    assert [type(event) for event in again.events] == [Command, Progress, Fault]
    assert json.loads(to_json(again))["events"] == ["command ARM", "progress SETTLED", "fault SUPERVISOR_LOST"]


@given(st.text())
def test_a_text_keeps_as_much_as_fits(text: str) -> None:
    again = RunEvent.unpack(RunEvent(RunStage.END, 1, 2, 3, text).pack()).text
    assert again == text.encode(errors="replace")[:240].rstrip(b"\0").decode(errors="ignore")


@given(records(ArmIdentity), st.binary(max_size=40))
def test_fields_without_a_header_come_back(arm: ArmIdentity, noise: bytes) -> None:
    assert unpack_fields(ArmIdentity, pack_fields(arm)) == arm
    for damaged in (noise, pack_fields(arm) + b"\0", pack_fields(arm)[:-1]):
        with suppress(RecordError):
            unpack_fields(ArmIdentity, damaged)


@dataclass(frozen=True)
class Untyped:
    name: str


@dataclass(frozen=True)
class Three:
    cube: Annotated[np.ndarray, F32["a", "b", "c"]]


@dataclass(frozen=True)
class Mismatched:
    text: Annotated[str, U16]


@pytest.mark.parametrize(
    ("cls", "named"), [(Untyped, "Untyped.name"), (Mismatched, "Mismatched.text"), (Three, "shape")]
)
def test_a_field_that_cannot_be_packed_is_named_when_the_class_is_defined(cls: type, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        layout_of(cls)


def sealed(kind: Kind, body: bytes) -> bytes:
    return HEADER.pack(kind, VERSION, HEADER.size + len(body)) + body
