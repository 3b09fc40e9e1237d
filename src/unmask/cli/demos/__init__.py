"""The demonstrations of ``unmask demo``, one module each: ``demo(quick, run, watch)`` does all of it, and goes on where it was
interrupted."""
