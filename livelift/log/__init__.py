"""The log's byte formats, pure: record codec, batches, segments, and how a record is shown."""
