"""Linux system calls by ctypes and ioctl, each with its man page."""
