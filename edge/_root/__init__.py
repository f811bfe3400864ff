"""sefa-edge: from a trained SeFA policy to a moving SO-100/SO-101 arm."""

__version__ = "0.1.0"
