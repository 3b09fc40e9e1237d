"""Typed batches: what is documented as optional is optional at run time too."""

import pytest

import unmask

REQUIRED = {
    "MLMBatch": {"input_ids", "target_ids"},
    "PackedFlexMLMBatch": {"input_ids", "target_ids", "positions", "segment_ids"},
    "MLMSeq2SeqPredictionBatch": {"input_ids", "attention_mask"},
    "MLMUncondtionalPredictionBatch": {"input_ids", "attention_mask"},
    "MLMLossDict": {"loss"},
    "MLMPredictionDict": {"loss", "text", "ids", "time_taken", "output_start_idx", "steps_taken"},
}


@pytest.mark.parametrize("name", REQUIRED)
def test_required_keys_are_those_of_the_documents(name):
    contract = getattr(unmask, name)
    assert contract.__required_keys__ == REQUIRED[name]
    assert contract.__required_keys__ | contract.__optional_keys__ == set(contract.__annotations__)
