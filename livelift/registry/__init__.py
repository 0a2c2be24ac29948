"""Registry hives (regf): read, replay logs, edit, merge, write. Pure: bytes in, bytes out."""
