"""The operator's own programs before and after each step of a cutover, on either side."""
