"""Pictures of a decode.

pieces     the text of each token in its row
colour     probabilities as colours
page       a self-contained HTML page that animates a trace
picture    a PNG: which token appeared at which step
terminal   a live view of a running decode
grid_page  canvases that are pictures: PNG, GIF, terminal
"""
