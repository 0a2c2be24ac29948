"""The source agent: walk, capture and merge drive the spool and the link."""
