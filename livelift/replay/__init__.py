"""The log becomes a tree again: records applied through directory handles confined to the replica."""
