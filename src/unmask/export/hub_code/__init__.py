"""The code of an exported folder: these files are copied into it as they are, and import nothing of ``unmask``."""
