"""THE ARM: the serial bus, the host side of the arm, and the simulated world."""
