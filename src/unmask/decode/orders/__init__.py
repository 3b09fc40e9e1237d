"""The order of unmasking: scores that rank positions, commit rules that choose how many, critics that rate sampled tokens."""
