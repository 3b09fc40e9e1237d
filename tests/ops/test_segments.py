"""Segments and positions against a loop over tokens."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.ops.segments import (
    document_mask,
    positions_from_mask,
    positions_from_segments,
    segment_starts,
    segments_from_ends,
)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_token_after_an_end_starts_a_document(ends):
    segments, positions, segment, position = [], [], 0, 0
    for end in ends:
        segments.append(segment)
        positions.append(position)
        segment, position = (segment + 1, 0) if end else (segment, position + 1)
    made = segments_from_ends(torch.tensor([ends]))
    assert made.tolist() == [segments]
    assert positions_from_segments(made).tolist() == [positions]
    assert segment_starts(made).tolist() == [[p == 0 for p in positions]]
    assert document_mask(made)[0].tolist() == [[a == b for b in segments] for a in segments]


def test_positions_count_real_tokens_wherever_the_padding_is():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert positions_from_mask(mask).tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
