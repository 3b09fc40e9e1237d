"""From a config to the parts of a run: network, objective, token stores, and the run itself."""
