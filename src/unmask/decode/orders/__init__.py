"""Which blanks next: scores that rank them, commit rules that say how many, critics that judge drawn tokens."""
