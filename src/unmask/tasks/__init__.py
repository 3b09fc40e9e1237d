"""Small problems with answers that can be checked, for comparing ways to train and to decode."""
