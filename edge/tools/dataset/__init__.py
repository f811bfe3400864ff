"""`sefa-edge dataset`: recorded runs as a LeRobot v3 dataset."""
