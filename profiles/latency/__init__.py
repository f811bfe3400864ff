"""LATENCY: percentiles, histograms, the machine-readable report and the page that a person reads."""
