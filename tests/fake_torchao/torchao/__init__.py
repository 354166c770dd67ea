"""A stand-in for torchao: what the arms call of it, rounding weights in place."""
