"""From a checkpoint to the two graphs: readers, conversion, stacking, parameter files and synthetic checkpoints."""
