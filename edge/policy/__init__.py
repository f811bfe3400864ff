"""From observation to action chunk, in a process of its own."""
