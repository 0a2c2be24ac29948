"""Where the walk and the capture meet: brackets, names, what to emit next; pure."""
