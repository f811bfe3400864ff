"""Validation of YAML and JSON from outside: strict about keys and types, one clear line for a problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.json_text import read_json
from sefa_edge.profiles.problems import describe_problem
from sefa_edge.profiles.yaml_text import read_yaml


class StrictModel(BaseModel):
    """Frozen; refuses unknown keys, NaN and infinities; does not convert types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def from_older(cls, content: object) -> object:
        """Converts parsed content of an older format; a model with older files overrides this."""
        return content


ModelT = TypeVar("ModelT", bound=StrictModel)


def parse_yaml(path: Path, model: type[ModelT]) -> ModelT:
    """Parse and validate a YAML file as `model`. Raises InputError naming file and key."""
    return validate(path, read_yaml(path), model)


def parse_json(path: Path, model: type[ModelT]) -> ModelT:
    """Parse and validate a JSON file as `model`. Raises InputError naming file and key."""
    return validate(path, read_json(path), model)


def validate(path: Path, content: object, model: type[ModelT]) -> ModelT:
    """Validate parsed content as `model`; the first problem is named with its key."""
    try:
        # A JSON round trip would lose nothing here, and lets strict mode accept lists as tuples.
        return model.model_validate_json(json.dumps(model.from_older(content)))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InputError(f"{path} has a value that cannot be used: {error}", "use plain values") from None
        message, hint = describe_problem(error.errors(), model)
        raise InputError(f"{path}: {message}", hint) from None
