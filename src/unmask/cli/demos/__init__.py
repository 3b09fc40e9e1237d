"""The demonstrations of ``unmask demo``, one module each with ``demo(quick, run, watch)``. An interrupted one resumes."""
