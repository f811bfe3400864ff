"""From observation to action chunk, in a separate process."""
