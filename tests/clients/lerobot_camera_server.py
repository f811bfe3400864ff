"""Run with LeRobot's Python: a network camera for LeRobot's `zmq` camera; sends noise that never repeats.

    python lerobot_camera_server.py NAME WIDTH HEIGHT

Prints its port, and serves until it is terminated.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import base64
import json
import sys
import time

import cv2
import numpy as np
import zmq

PERIOD_S = 1 / 30


def main() -> None:
    name, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    socket = zmq.Context().socket(zmq.PUB)
    print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
    rng = np.random.default_rng(0)
    while True:
        _, jpeg = cv2.imencode(".jpg", rng.integers(0, 256, (height, width, 3), np.uint8))
        images = {name: base64.b64encode(jpeg.tobytes()).decode()}
        socket.send_string(json.dumps({"images": images, "timestamps": {name: time.time()}}))
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
