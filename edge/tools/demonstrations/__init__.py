"""`sefa-edge record`: demonstrations of a scripted expert."""
