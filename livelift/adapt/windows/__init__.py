"""Windows: the target's driver, boot and network registry into the source's hives."""
