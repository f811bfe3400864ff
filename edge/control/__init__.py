"""The control loop: clock, modes, safety, chunks, and the process that runs them."""
