"""THE CROSSING: from a checkpoint to an engine and its policy card."""
