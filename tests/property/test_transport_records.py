"""Descriptors come back from packing; anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.transport import FrameDescriptor

int64 = st.integers(-(2**63), 2**63 - 1)
descriptors = st.builds(FrameDescriptor, st.integers(0, 2**32 - 1), *[int64] * 7)


@given(descriptors)
def test_descriptor_round_trip(descriptor: FrameDescriptor) -> None:
    assert FrameDescriptor.unpack(descriptor.pack()) == descriptor


@given(descriptors, st.data())
def test_a_descriptor_with_a_damaged_header_is_refused(descriptor: FrameDescriptor, data: st.DataObject) -> None:
    record = bytearray(descriptor.pack())
    place, value = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 255))
    if place in (2, 3) or record[place] == value:  # two bytes of the header are not used
        return
    record[place] = value
    with pytest.raises(RecordError):
        FrameDescriptor.unpack(bytes(record))


@given(st.binary(max_size=120))
def test_noise_is_not_a_descriptor(record: bytes) -> None:
    with pytest.raises(RecordError):
        FrameDescriptor.unpack(record)
