"""Descriptors survive packing; nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.ipc.transport import FrameDescriptor, RecordError

int64 = st.integers(-(2**63), 2**63 - 1)
descriptors = st.builds(FrameDescriptor, st.integers(0, 2**32 - 1), *[int64] * 7)


@given(descriptors)
def test_descriptor_round_trip(descriptor: FrameDescriptor) -> None:
    assert FrameDescriptor.unpack(descriptor.pack()) == descriptor


@given(st.binary(max_size=64))
def test_only_descriptors_are_descriptors(record: bytes) -> None:
    if len(record) == FrameDescriptor.FORMAT.size and record[:4] == b"FRMF":
        assert FrameDescriptor.unpack(record).pack() == record
    else:
        with pytest.raises(RecordError):
            FrameDescriptor.unpack(record)
