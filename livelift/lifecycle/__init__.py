"""The states of a job as a table."""
