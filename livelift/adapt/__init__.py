"""Adaptation plans: facts of both machines in, a reviewable list of edits with their reasons out. Pure."""
