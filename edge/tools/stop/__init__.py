"""`sefa-edge stop`: stops what moves an arm, from another terminal."""
