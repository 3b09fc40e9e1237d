"""The config: its sections (``tree``, ``objective_config``), how they are read (``override``), what they share (``section``)."""
