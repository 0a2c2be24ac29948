"""Tests of livelift.bootstrap."""
