"""Two whole virtual machines with unlike hardware, a load on them from outside, and a judge of what came over."""
