"""The supervisor's connection to the simulated world, if the run has one: it places objects and reports success."""

from __future__ import annotations

from sefa_edge.edge.run.process_group import ProcessGroup
from sefa_edge.edge.run.processes import WORLD
from sefa_edge.edge.run.run_plan import SimulatedWorld
from sefa_edge.firmware_bridge.simulation.client import WorldClient
from sefa_edge.firmware_bridge.simulation.state_file import StateReader
from sefa_edge.profiles.errors import InputError, MissingError


class WorldLink:
    """Connected once the world answers; with a real arm never."""

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self._client: WorldClient | None = None
        self._state: StateReader | None = None

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    def connect(self) -> bool:
        """Whether the world answers by now. Raises MissingError: one that was started elsewhere does not."""
        paths = self._group.world_paths
        assert paths is not None
        try:
            self._state = self._state or StateReader(paths.state)
            self._client = WorldClient(paths.port)
        except MissingError:
            if self._group.child(WORLD) is None:
                raise
            return False
        return True

    def check_task(self, world: SimulatedWorld) -> None:
        """Raises InputError: it simulates another task."""
        task = None if self._client is None else self._client.status().task
        if task != world.task:
            raise InputError(
                f"this simulated world plays '{task}', not '{world.task}'",
                f"start another one: sefa-edge sim --task {world.task}",
            )

    def place(self, seed: int) -> None:
        """Place the objects of an episode."""
        if self._client is not None:
            self._client.place(seed)

    def outcome(self, seed: int) -> str:
        """`success` or `lost` once the episode with this seed has reached it; until then empty."""
        state = None if self._state is None else self._state.read()
        if state is None or state.placed_seed != seed:
            return ""
        return "success" if state.success else "lost" if state.lost else ""

    def close(self) -> None:
        for resource in (self._client, self._state):
            if resource is not None:
                resource.close()
