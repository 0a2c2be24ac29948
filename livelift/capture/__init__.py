"""Change capture behind one port: fanotify, inotify, the canary that chooses between them."""
