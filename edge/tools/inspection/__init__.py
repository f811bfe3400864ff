"""`sefa-edge inspect`: shows the contents of a file, and which runtimes accept it."""
