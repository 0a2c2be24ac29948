"""System calls that the standard library lacks; the only room that talks to the kernel through ctypes."""
