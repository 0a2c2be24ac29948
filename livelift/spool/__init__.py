"""The sequencer and the log on the source's disk: one LSN for every record, kept until the target has it durably."""
