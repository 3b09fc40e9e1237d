"""Whole networks that speak the ``MLMModel`` protocol."""
