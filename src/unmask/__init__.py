"""unmask: masked language models, from raw text to an honest likelihood and fast iterative decoding."""
