"""Fence, drain, verify, cut: steps, each with its undo."""
