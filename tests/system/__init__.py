"""Whole agents as processes on real file systems, judged by `tests.oracle`."""
