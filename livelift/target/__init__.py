"""The target agent: receive, replay, checkpoint, acknowledge."""
