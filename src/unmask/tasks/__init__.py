"""Small problems with checkable answers, for comparing methods of training and decoding."""
