"""Data reading: every object of the source tree with all that belongs to it."""
