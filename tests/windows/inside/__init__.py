"""Tests that run where Python is a Windows Python: on a real machine, and (most of them) under Wine."""
