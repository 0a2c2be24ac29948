"""The sans-IO session between two agents: frames, messages, state tables."""
