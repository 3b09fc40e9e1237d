"""Segment ids and positions from document ends equal those computed token by token."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.collate.document_segments import documents
from unmask.ops.segments import positions_from_segments, segments_from_ends


@given(st.integers(0, 4), st.integers(1, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_documents_are_the_segments_of_their_ends(rows, width, data):
    ends = np.array(
        data.draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width)), dtype=bool
    ).reshape(rows, width)
    segments, positions = documents(np.flatnonzero(ends), rows, width)
    expected = segments_from_ends(torch.from_numpy(ends))
    assert segments.dtype == positions.dtype == np.int64
    assert np.array_equal(segments, expected.numpy())
    assert np.array_equal(positions, positions_from_segments(expected).numpy())
