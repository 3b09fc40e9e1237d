"""From rows of token ids to corrupted batches."""
