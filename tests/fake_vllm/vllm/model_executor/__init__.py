"""No more than the name."""
