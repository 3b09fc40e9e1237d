"""Observers of a decode: record, replay and inspect its steps."""
