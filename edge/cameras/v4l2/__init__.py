"""V4L2 cameras (USB, CSI bridges) through their ioctls, which give a frame's flags and time stamp."""
