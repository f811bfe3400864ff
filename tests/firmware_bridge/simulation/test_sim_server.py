"""The simulated world as a process: serial port, published state, control socket, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.firmware_bridge.simulation.client import WorldClient, WorldError, WorldPaths
from sefa_edge.firmware_bridge.simulation.state_file import PublishedState, StateReader, StateWriter
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, MissingError

PATIENCE_S = 60.0
SERVER = "sefa_edge.firmware_bridge.simulation.server"


def start_server(port: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", SERVER, "--task", "place", "--seed", "3", "--port", str(port), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running world; when asked to quit it must exit and remove its folder."""
    path = tmp_path_factory.mktemp("world") / "folder" / "arm"
    path.parent.mkdir()
    process = start_server(path)
    until(lambda: WorldPaths(path).control.exists() or process.poll() is not None)
    yield path
    with contextlib.closing(WorldClient(path)) as client:
        client.quit()
    assert process.wait(PATIENCE_S) == 0
    process.communicate()
    assert not path.parent.exists()


@pytest.fixture
def client(port: Path) -> Iterator[WorldClient]:
    with contextlib.closing(WorldClient(port)) as client:
        yield client


@pytest.mark.sim
def test_time_passes_and_is_published(port: Path, client: WorldClient) -> None:
    before = client.status()
    until(lambda: client.status().time_s > before.time_s + 0.1)
    with contextlib.closing(StateReader(WorldPaths(port).state)) as reader:
        first = reader.read()
        assert first is not None
        assert first.qpos.shape == (13,)
        assert reader.server_alive()
        until(lambda: (newest := reader.read()) is not None and newest.stamp_ns > first.stamp_ns)
    assert (before.task, before.seed, before.plugged_in) == ("place", 3, True)


@pytest.mark.sim
def test_place_moves_cube_and_goal_and_is_visible_at_once(port: Path, client: WorldClient) -> None:
    with contextlib.closing(StateReader(WorldPaths(port).state)) as reader:
        places = []
        for seed in (11, 12, 11):
            client.place(seed)
            state = reader.read()
            assert state is not None
            assert state.placed_seed == seed
            places.append(state.goal_position_m)
    np.testing.assert_array_equal(places[0], places[2])
    assert np.linalg.norm(places[0] - places[1]) > 0.001
    with pytest.raises(WorldError, match="expected a seed from 0"):
        client.place(-1)


@pytest.mark.sim
def test_the_driver_of_a_real_arm_works_and_survives_a_pulled_cable(port: Path, client: WorldClient) -> None:
    client.reset(3)
    profile = load_arm_profile("so101_sim")
    arm = open_feetech_arm(profile, str(port), None)
    try:
        assert set(client.status().torque) == {False}
        arm.enable_torque()
        assert set(client.status().torque) == {True}
        np.testing.assert_allclose(arm.read_state().joint_deg, profile.park_pose_deg, atol=12)
        client.unplug()
        assert not client.status().plugged_in
        with pytest.raises(ArmDisconnected):
            arm.read_state()
    finally:
        arm.close()
    client.replug()
    arm = open_feetech_arm(profile, str(port), None)
    assert set(client.status().torque) == {True}
    arm.release_torque()
    arm.close()


@pytest.mark.sim
def test_invalid_requests_are_refused(port: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(str(WorldPaths(port).control))
        for request in (b"{", b"[]", b'"quit"', b'{"do": "explode"}', b"\xff\xfe", b'{"do": "place"}', b"[" * 4000):
            connection.send(request)
            assert json.loads(connection.recv(4096))["ok"] is False


@pytest.mark.sim
def test_two_worlds_do_not_share_a_path(port: Path) -> None:
    second = start_server(port)
    _, errors = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 2
    assert b"is the port of a running simulated arm" in errors
    assert WorldPaths(port).control.exists()


@pytest.mark.sim
def test_it_exits_when_its_lifeline_is_closed(tmp_path: Path) -> None:
    import os

    path = tmp_path / "folder" / "arm"
    path.parent.mkdir()
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-m", SERVER, "--task", "lift", "--seed", "0", "--port", str(path)]
    process = subprocess.Popen([*command, "--lifeline", str(read_fd)], pass_fds=(read_fd,))
    os.close(read_fd)
    until(lambda: WorldPaths(path).control.exists())
    os.close(write_fd)
    assert process.wait(PATIENCE_S) == 0
    assert not path.parent.exists()


@pytest.mark.sim
def test_the_command_says_how_to_attach_and_cleans_up(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    command = [sys.executable, "-m", "sefa_edge", "sim", "--link", str(link)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: WorldPaths(link).control.exists() or process.poll() is not None)
    until(link.is_symlink)
    time.sleep(0.2)  # its message is printed after its paths exist
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert f"--arm sim --port {link}".encode() in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sim
def test_the_stale_link_of_a_killed_simulator_is_refused_and_then_replaced(tmp_path: Path) -> None:
    link = tmp_path / "arm"
    killed = start_server(link)
    until(lambda: link.exists() or killed.poll() is not None)
    device = Path(os.path.realpath(link))
    killed.kill()
    killed.communicate()
    terminals = []
    while not device.exists() and len(terminals) < 256:  # until another terminal has its number
        terminals += os.openpty()
    assert link.is_symlink()
    for arguments in (("arm", "status"), ("arm", "free", "--yes")):
        command = [sys.executable, "-m", "sefa_edge", *arguments, "--arm", "so101_sim", "--port", str(link)]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 4, done.stderr
        assert b"is left over from a simulated arm that has ended" in done.stderr
    with contextlib.closing(StateReader(WorldPaths(link).state)) as reader:
        assert not reader.server_alive()
    for master in terminals[::2]:
        assert not select.select([master], [], [], 0)[0], "something was written to an unrelated terminal"
    for descriptor in terminals:
        os.close(descriptor)
    again = start_server(link)
    until(lambda: link.exists() or again.poll() is not None)
    again.terminate()
    assert again.wait(PATIENCE_S) == 0
    again.communicate()
    assert not tmp_path.exists()  # this kind of server removes its folder


@pytest.mark.sim
@pytest.mark.parametrize("name", ["arm", "arm.state"])
def test_files_not_made_by_a_simulator_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/null") if name == "arm" else (tmp_path / name).write_text("precious")
    before = sorted(path.name for path in tmp_path.iterdir())
    process = start_server(tmp_path / "arm")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert b"choose another path" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_half_written_state_is_never_read(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path / "state", 2)
    with contextlib.closing(StateReader(tmp_path / "state")) as reader:
        assert reader.read() is None
        writer.write(PublishedState(5, 1, 0.5, True, False, np.array([1.0, 2.0]), np.zeros(3)))
        state = reader.read()
        assert state is not None
        assert (state.stamp_ns, state.placed_seed, state.success, state.qpos.tolist()) == (5, 1, True, [1.0, 2.0])
        with (tmp_path / "state").open("r+b") as file:
            file.seek(60)
            file.write(b"\xaa")
        assert reader.read() is None
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_unrelated_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200))
    with pytest.raises(InputError, match="not the state of a simulated world"):
        StateReader(tmp_path / "file")
    with pytest.raises(MissingError, match="no simulated world"):
        StateReader(tmp_path / "absent")
    with pytest.raises(MissingError, match="no simulated world"):
        WorldClient(tmp_path / "absent")


@pytest.mark.sim
def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("folder" * 20)
    folder.mkdir()
    process = start_server(folder / "arm")
    until(lambda: WorldPaths(folder / "arm").control.exists() or process.poll() is not None)
    with contextlib.closing(WorldClient(folder / "arm")) as client:
        assert client.status().task == "place"
        client.quit()
    assert process.wait(PATIENCE_S) == 0
    process.communicate()
