"""The operator's door to a running agent: a Unix socket in its state directory, JSON lines."""
