"""Studies of trained models: paired comparison of runs, orders of decoding, and tuned decoding options."""
