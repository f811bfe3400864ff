"""THE METHOD: Selective Flow Alignment, trained in three stages."""
