"""Communication between the processes of a run: records, transport, and the modes and faults they refer to."""
