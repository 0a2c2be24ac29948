"""The frozen value types that every room shares; floor 0: no input or output."""
