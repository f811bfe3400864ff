"""V4L2 cameras (USB, CSI bridges): ioctls by hand, so that nothing about a frame is hidden."""
