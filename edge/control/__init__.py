"""The tick, time, and the right to move: loop, modes, safety, chunks, and the process that owns them."""
