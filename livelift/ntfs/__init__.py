"""NTFS on the disk, read only: file records, data runs, compressed units; pure, whoever uses it brings the bytes."""
