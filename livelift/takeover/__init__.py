"""The replica becomes the root: probing it, exchanging it for the running system's tree, and back."""
