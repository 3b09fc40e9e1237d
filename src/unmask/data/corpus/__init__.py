"""From files and datasets to documents."""
