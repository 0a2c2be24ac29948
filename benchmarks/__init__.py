"""Livelift against its peers on the same machine: wall time and CPU of both sides, interleaved, medians."""
