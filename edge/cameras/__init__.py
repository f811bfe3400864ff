"""OWNS CAMERAS: frames and where they come from, each camera in a process of its own."""
