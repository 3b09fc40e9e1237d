"""A trace made visible.

pieces    the text of each token, as it reads in its row
colour    how sure, as a colour
page      one self-contained HTML page that animates the unmasking
picture   a PNG: which token appeared at which step
terminal  a live view while the decoder runs
"""
