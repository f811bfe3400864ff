"""The MCAP file of a run and the process that writes it."""
