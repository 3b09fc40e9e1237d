"""The evaluation harness ``lm-eval``: trained models of this package as a model of the harness."""
