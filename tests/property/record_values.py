"""Hypothesis strategies for records, from the wire types of their fields."""

from __future__ import annotations

import functools
import operator
from dataclasses import fields, is_dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sefa_edge.edge.ipc.wire_record import layout_of
from sefa_edge.profiles.wire_types import Among, Array, Blob, Many, Scalar, Text

MAX_COUNT = 3

Dims = dict[str, int]


@st.composite
def records(draw: st.DrawFn, cls: type) -> Any:
    """A record of this class with arbitrary dimensions."""
    dims = {name: draw(st.integers(1, 5)) for name in layout_of(cls).dims}
    return draw(of_dims(cls, dims))


def of_dims(cls: type, dims: Dims) -> st.SearchStrategy[Any]:
    """A dataclass whose arrays have these dimensions."""
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, *(value_of(hints[field.name], dims) for field in fields(cls)))


def value_of(hint: Any, dims: Dims) -> st.SearchStrategy[Any]:
    """A value of one field."""
    if get_origin(hint) is not Annotated:
        kinds = get_args(hint) or (hint,)
        return st.one_of(of_dims(kind, dims) if is_dataclass(kind) else st.none() for kind in kinds)  # type: ignore[arg-type]
    annotation, mark, *more = get_args(hint)
    if isinstance(mark, Text):
        return texts(mark.max_bytes)
    if isinstance(mark, Blob):
        return st.binary(max_size=50)
    if isinstance(mark, Array) and annotation is np.ndarray:
        return arrays(mark, tuple(dims[name] for name in mark.shape if isinstance(name, str)))
    if isinstance(mark, Array):
        return st.tuples(*[scalars(int, mark.scalar)] * int(mark.shape[0]))
    if isinstance(mark, Many):
        element = get_args(annotation)[0]
        enums = [member for enum in get_args(element) or (element,) if not is_dataclass(enum) for member in enum]
        one = of_dims(element, dims) if is_dataclass(element) else st.sampled_from(enums)  # type: ignore[arg-type]
        return st.lists(one, max_size=MAX_COUNT).map(tuple)
    among = [kind.members for kind in more if isinstance(kind, Among)]
    return st.sampled_from(sorted(among[0])) if among else scalars(annotation, mark)


def scalars(annotation: type, scalar: Scalar) -> st.SearchStrategy[Any]:
    """One number, flag or member of an enum."""
    if annotation is bool:
        return st.booleans()
    if issubclass(annotation, IntFlag):
        return st.integers(0, functools.reduce(operator.or_, annotation)).map(annotation)
    if issubclass(annotation, IntEnum):
        return st.sampled_from(annotation)
    limits = np.iinfo(np.dtype(scalar.code))
    return st.integers(int(limits.min), int(limits.max))


def texts(max_bytes: int) -> st.SearchStrategy[str]:
    """Text that fits a field of `max_bytes` bytes."""
    letters = st.characters(exclude_categories=["Cs"])
    return st.text(letters, max_size=max_bytes // 4).filter(lambda text: not text.endswith("\0"))


def arrays(array: Array, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Any bit patterns, but a single NaN: JSON does not distinguish NaNs."""
    dtype = np.dtype(array.scalar.code)
    if dtype.kind == "f":
        return hnp.arrays(dtype, shape, elements=st.floats(width=dtype.itemsize * 8).map(_one_nan))  # type: ignore[arg-type]
    return hnp.arrays(dtype, shape)


def _one_nan(number: float) -> float:
    return float("nan") if number != number else number


def same(left: object, right: object) -> bool:
    """Whether two values are equal in every bit and type."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if is_dataclass(left):
        return type(left) is type(right) and all(
            same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left)
        )
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right
