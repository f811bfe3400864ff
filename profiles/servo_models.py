"""Feetech's bus servos by the model number that they report (registers 3 and 4), and what is known about each.

A model number is the servo's major version plus 256 times its minor version, as named in Feetech's configuration
program (FD); LeRobot's motor tables agree on 777, 2825, 11272 and 1284. Torque and supply are from Feetech's data
sheets. Only documented values are listed: None is "unknown".

One count of current is 6.5 mA and a turn has 4096 positions in every STS servo with a magnetic encoder (Feetech's
memory table of that series, which is the one in `firmware_bridge/host/feetech/registers.py`). The registers of other
series are not supported, so an arm profile cannot allow their servos.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Series(Enum):
    """A family of servos with one memory table; the value says why a series other than STS cannot be used."""

    STS = ""
    SM = "SM servos use RS-485, not the TTL bus of an SO arm"
    SCS = "SCS servos send the high byte first and count 1024 positions a turn"
    HLS = "HLS servos (and HTS, STS…BL) have another memory table, with a current loop"


@dataclass(frozen=True, slots=True)
class ServoModel:
    """One model of servo."""

    number: int
    name: str
    series: Series = Series.STS
    ticks_per_turn: int | None = None
    supply: str | None = None
    stall_torque: str | None = None

    @property
    def full_name(self) -> str:
        """The name with its number; only the number for a model that is not in the table."""
        known = self.number in _BY_NUMBER
        return f"{self.name} (model number {self.number})" if known else f"of an unknown model (number {self.number})"

    @property
    def facts(self) -> str:
        """What is known about it, for a person."""
        if self.series is not Series.STS:
            return self.series.value
        known = [
            "STS series",
            None if self.ticks_per_turn is None else f"{self.ticks_per_turn} positions a turn",
            self.supply,
            None if self.stall_torque is None else f"stall torque {self.stall_torque}",
        ]
        return ", ".join(fact for fact in known if fact)

    @property
    def is_usable(self) -> bool:
        """Whether an arm profile may allow it: its memory table and its resolution are known."""
        return self.series is Series.STS and self.ticks_per_turn is not None


def _number(major: int, minor: int) -> int:
    return major + 256 * minor


STS3215 = ServoModel(
    _number(9, 3), "STS3215", Series.STS, 4096, "6 to 7.4 V or, as C018, 12 V", "19.5 kg cm at 7.4 V, 30 kg cm at 12 V"
)

MODELS: tuple[ServoModel, ...] = (
    STS3215,
    ServoModel(_number(9, 1), "STS3015"),
    ServoModel(_number(9, 2), "STS3032", Series.STS, 4096, "4.8 to 6 V"),
    ServoModel(_number(9, 4), "STS3040"),
    ServoModel(_number(9, 5), "STS3020", Series.STS, 4096),
    ServoModel(_number(9, 6), "STS3046"),
    ServoModel(_number(9, 7), "STS3045"),
    ServoModel(_number(9, 8), "STS3235", Series.STS, 4096),
    ServoModel(_number(9, 9), "STS3095", Series.STS, 4096),
    ServoModel(_number(9, 10), "STS3095", Series.STS, 4096),
    ServoModel(_number(9, 11), "STS3250", Series.STS, 4096, "6 to 12.6 V", "50 kg cm at 12 V"),
    ServoModel(_number(9, 12), "STS3036"),
    ServoModel(_number(9, 13), "STS3120"),
    ServoModel(_number(8, 40), "SM40BLHV", Series.SM),
    ServoModel(_number(8, 42), "SM45BLHV", Series.SM),
    ServoModel(_number(8, 44), "SM85BLHV (SM8512BL)", Series.SM),
    ServoModel(_number(8, 120), "SM120BLHV", Series.SM),
    ServoModel(_number(5, 4), "SCS0009", Series.SCS),
    ServoModel(1284, "SCS0009", Series.SCS),  # as LeRobot reads it, high byte first
    ServoModel(_number(5, 15), "SCS15", Series.SCS),
    ServoModel(_number(5, 35), "SCS215", Series.SCS),
    ServoModel(_number(9, 15), "SCS15-2", Series.SCS),
    ServoModel(_number(9, 35), "SCS225", Series.SCS),
    ServoModel(_number(10, 2), "HTS3032", Series.HLS),
    ServoModel(_number(10, 13), "HLS3625", Series.HLS),
    ServoModel(_number(10, 16), "HLS3930", Series.HLS),
    ServoModel(_number(10, 18), "HLS3950", Series.HLS),
)
_BY_NUMBER = {model.number: model for model in MODELS}
_SERIES_OF_MAJOR = {5: Series.SCS, 8: Series.SM, 10: Series.HLS}

USABLE_NAMES = tuple(dict.fromkeys(model.name for model in MODELS if model.is_usable))
"""Names that an arm profile may use in `servo_models`."""


def servo_model(number: int) -> ServoModel:
    """The model with a number; one that is not in the table gets its number as name, and its series if known."""
    known = _BY_NUMBER.get(number)
    if known is not None:
        return known
    return ServoModel(number, f"model {number}", _SERIES_OF_MAJOR.get(number % 256, Series.STS))


def model_numbers(names: tuple[str, ...] | list[str]) -> frozenset[int]:
    """The numbers of all models with these names."""
    return frozenset(model.number for model in MODELS if model.name in names)
