"""The pseudo-terminal: its link, clients that connect and disconnect, unplugging."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from sefa_edge.firmware_bridge.host import port_link
from sefa_edge.firmware_bridge.host.feetech.protocol import decode, encode_ping
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns

PROFILE = load_arm_profile("so101_sim")
PATIENCE_S = 10.0


def make_bus() -> SimulatedBus:
    return SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE))


@pytest.fixture
def port(tmp_path: Path) -> Iterator[PtyPort]:
    with PtyPort(make_bus(), tmp_path / "arm") as served:
        yield served


def open_client(path: str) -> int:
    client = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(client)
    return client


def ping(client: int, servo_id: int) -> list[int]:
    os.write(client, encode_ping(servo_id))
    readable, _, _ = select.select([client], [], [], PATIENCE_S)
    return [packet.servo_id for packet in decode(os.read(client, 100))] if readable else []


def test_clients_connect_one_after_another(port: PtyPort) -> None:
    for servo_id in (1, 6):
        client = open_client(port.path)
        assert ping(client, servo_id) == [servo_id]
        os.close(client)


def test_the_link_disappears_with_the_cable_and_returns_with_it(port: PtyPort) -> None:
    client = open_client(port.path)
    port.unplug()
    assert not os.path.lexists(port.path)
    assert not port.plugged
    readable, _, _ = select.select([client], [], [], PATIENCE_S)
    assert readable
    assert os.read(client, 10) == b""
    os.close(client)
    port.replug()
    client = open_client(port.path)
    assert ping(client, 2) == [2]
    os.close(client)


def test_closing_removes_only_its_own_link(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    with PtyPort(make_bus(), link):
        assert link.is_symlink()
    assert not os.path.lexists(link)
    with PtyPort(make_bus(), link):
        link.unlink()
        link.symlink_to("/dev/null")
    assert os.readlink(link) == "/dev/null"


def test_a_file_at_the_path_of_the_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "arm").write_text("precious")
    with pytest.raises(InputError, match="is not a link"):
        PtyPort(make_bus(), tmp_path / "arm")
    assert (tmp_path / "arm").read_text() == "precious"
    with pytest.raises(InputError, match="cannot be created"):
        PtyPort(make_bus(), tmp_path / "nowhere" / "arm")


def test_the_link_of_a_running_arm_is_not_replaced(tmp_path: Path) -> None:
    with PtyPort(make_bus(), tmp_path / "arm") as port:
        with pytest.raises(InputError, match=f"running simulated arm .process {os.getpid()}"):
            PtyPort(make_bus(), tmp_path / "arm")
        assert os.path.exists(port.path)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no `unshare` here")
def test_a_link_into_an_inaccessible_process_is_not_stale(tmp_path: Path) -> None:
    """As inside a container: the link leads through another process, which is not accessible from there."""
    script = f"import pathlib, {port_link.__name__} as p; print(p.is_stale(pathlib.Path({str(tmp_path)!r}) / 'arm'))"
    with PtyPort(make_bus(), tmp_path / "arm"):
        done = subprocess.run(
            ["unshare", "-r", sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout.strip() == "False", done.stderr


def test_a_loop_can_serve_without_a_thread() -> None:
    port = PtyPort(make_bus())
    client = open_client(port.path)
    os.write(client, encode_ping(4))
    received = b""
    deadline_ns = time.monotonic_ns() + ms_to_ns(1000 * PATIENCE_S)
    while not received and time.monotonic_ns() < deadline_ns:
        port.serve_until(time.monotonic_ns() + ms_to_ns(2))
        if select.select([client], [], [], 0)[0]:
            received = os.read(client, 100)
    assert [packet.servo_id for packet in decode(received)] == [4]
    os.close(client)
    port.close()


def test_a_client_that_never_reads_does_not_stop_the_server(port: PtyPort) -> None:
    stalled = open_client(port.path)
    for _ in range(50):
        os.write(stalled, encode_ping(1) * 40)
    os.close(stalled)
    port.unplug()
    port.replug()
    client = open_client(port.path)
    assert ping(client, 5) == [5]
    os.close(client)
