"""A value from outside, in a message."""

from __future__ import annotations

SHOWN_CHARACTERS = 24


def shown(value: object) -> str:
    """A value from outside, short and printable, for a message."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of over 38 digits"
    if isinstance(value, (list, tuple, dict)):
        return "a list" if isinstance(value, (list, tuple)) else "an object"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = value if isinstance(value, str) else repr(value)
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[:SHOWN_CHARACTERS])
    cut = f"… ({len(text)} characters)" if len(text) > SHOWN_CHARACTERS else ""
    return f"'{clean}'{cut}" if isinstance(value, str) else clean + cut
