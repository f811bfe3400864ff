"""From a checkpoint to engines and their policy cards."""
