"""Checks a downloaded checkpoint without loading it."""
