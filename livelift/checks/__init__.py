"""Preflight rules: facts in, findings out."""
