"""Text in, text out: fill, generate, score and embed with a trained model. The command line calls the same functions.

model        ``load`` and ``TrainedModel``: the front door
filling      blanks of texts, at a known or an unknown length
generating   continuations, whole or step by step
results      what comes back: frozen values that print, draw in notebooks, and turn into JSON
"""
