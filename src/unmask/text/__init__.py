"""Text in, text out: fill, generate, score, embed and evaluate with a trained model. The command line calls the same functions.

loading      ``load``
model        ``TrainedModel``
filling      fill the blanks of texts, of known or unknown length
generating   continue prompts, as whole texts or as a stream of steps
answer_matching    exact match and conditional bound of answers given their prompts
patterns     regular expressions over the text of blanks
results      frozen results that print, render in notebooks, and convert to JSON
"""
