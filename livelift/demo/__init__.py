"""livelift demo: a live system tree moves on this one machine, and the proof is printed."""
