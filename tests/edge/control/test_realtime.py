"""What the control loop asks of the operating system, and what a person is told when it gets less."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sefa_edge.cli import CommandLine
from sefa_edge.edge.control.realtime import claim_privileges, refusal_lines, user_name
from sefa_edge.edge.control.realtime_settings import RealtimeSettings
from sefa_edge.edge.ipc.records import Privilege
from sefa_edge.edge.run.command import add_realtime_arguments
from sefa_edge.edge.run.run_plan import realtime_settings
from sefa_edge.profiles.errors import InputError

CORE = min(os.sched_getaffinity(0))


def parse(*words: str) -> RealtimeSettings:
    parser = CommandLine()
    add_realtime_arguments(parser)
    return realtime_settings(parser.parse_args(words))


def test_without_words_the_defaults_of_the_control_process_hold() -> None:
    assert parse() == RealtimeSettings()


def test_words_become_settings() -> None:
    words = ("--cpu", str(CORE), "--realtime-priority", "0", "--spin-us", "150")
    assert parse(*words) == RealtimeSettings(priority=0, cpu=CORE, spin_us=150)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--cpu", "4095"), "4095"),
        (("--realtime-priority", "100"), "from 0 to 99, got '100'"),
        (("--realtime-priority", "-1"), "from 0 to 99, got '-1'"),
        (("--spin-us", "2001"), "from 0 to 2000 us, got '2001'"),
    ],
)
def test_settings_out_of_range_are_refused(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        parse(*words)
    assert caught.value.hint


def test_nothing_refused_is_nothing_reported() -> None:
    assert refusal_lines(Privilege.NONE, 55, "arm") == []


def test_a_user_is_told_the_lines_to_add() -> None:
    note, limits, unit = refusal_lines(Privilege.FIFO | Privilege.MEMORY_LOCK, 60, "arm")
    assert "real-time priority, locked memory" in note
    assert r"'arm - rtprio 60\narm - memlock unlimited\n' | sudo tee /etc/security/limits.d/" in limits
    assert "LimitRTPRIO=60 LimitMEMLOCK=infinity" in unit


def test_only_what_was_refused_is_reported() -> None:
    words = refusal_lines(Privilege.MEMORY_LOCK, 60, "arm")
    assert not any("rtprio" in line or "RTPRIO" in line or "priority" in line for line in words)
    assert refusal_lines(Privilege.AFFINITY, 60, "arm")[1].startswith("hint: a control group")


def test_root_is_told_of_containers() -> None:
    _, hint = refusal_lines(Privilege.FIFO, 60, "root")
    assert "--cap-add=SYS_NICE" in hint
    assert user_name() == "root" or os.geteuid() != 0


@pytest.mark.slow
def test_what_is_not_asked_for_cannot_be_refused() -> None:
    asked, granted = claim_in_a_process_of_its_own(0, None)
    assert not asked & (Privilege.FIFO | Privilege.AFFINITY)
    assert granted & ~asked == Privilege.NONE


@pytest.mark.slow
def test_a_core_is_kept() -> None:
    asked, granted = claim_in_a_process_of_its_own(0, CORE)
    assert asked & granted & Privilege.AFFINITY


@pytest.mark.slow
def test_a_core_that_does_not_exist_is_refused() -> None:
    asked, granted = claim_in_a_process_of_its_own(0, 4095)
    assert asked & ~granted & Privilege.AFFINITY


def claim_in_a_process_of_its_own(priority: int, cpu: int | None) -> tuple[Privilege, Privilege]:
    """Privileges cannot all be given back, so they are claimed elsewhere."""
    name = claim_privileges.__name__
    program = f"from {claim_privileges.__module__} import {name} as c; print(*[int(p) for p in c({priority}, {cpu})])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    asked, granted = map(int, done.stdout.split())
    return Privilege(asked), Privilege(granted)


@pytest.mark.slow
def test_a_reserved_heap_takes_no_page_fault() -> None:
    program = """
import resource
from sefa_edge.edge.control.realtime import disable_collector, reserve_heap
reserve = reserve_heap()
disable_collector()
def use():
    small = [bytes(300) for _ in range(3000)]
    large = [bytes(65536) for _ in range(20)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) <= 5
