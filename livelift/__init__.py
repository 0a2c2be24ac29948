"""Livelift moves a running server onto other hardware while it keeps serving."""

__version__ = "0.1.0"
