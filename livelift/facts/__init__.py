"""Facts about a machine: collectors and pure parsers."""
