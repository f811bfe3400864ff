"""V4L2 cameras (USB, CSI bridges) through their ioctls, which return a frame's flags and time stamp."""
