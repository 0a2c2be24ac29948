"""The tree index: the fold of the log, on SQLite."""
