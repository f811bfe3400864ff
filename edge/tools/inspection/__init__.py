"""`sefa-edge inspect`: what a file holds, and which runtimes would take it."""
