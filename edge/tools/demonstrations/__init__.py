"""`sefa-edge record`: demonstrations by a scripted expert."""
