"""Records runs, computes them anew, makes datasets of them."""
