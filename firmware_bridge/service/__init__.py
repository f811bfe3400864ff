"""What a person does with an arm outside a run: find, inspect, configure, calibrate, release it."""
