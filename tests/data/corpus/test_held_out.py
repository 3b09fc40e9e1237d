"""The held-out share is one of bytes: near the one asked for, or a warning gives both figures; no text is on both sides."""

import json
import random
import warnings

import numpy as np
import pytest

from unmask.data.corpus import byte_fraction
from unmask.data.corpus.byte_fraction import TOLERANCE, ByteSketch
from unmask.data.corpus.held_out import HeldOut
from unmask.data.corpus.sources import Source

draw = np.random.default_rng(0)
SIZES = {
    "two large": [34_000, 66_000],
    "one": [100_000],
    "one large, many small": [500_000] + [500] * 1000,
    "few": draw.lognormal(8, 2, 30),
    "many": draw.lognormal(6, 2, 2000),
    "equal": [200] * 3000,
    "falling": [100_000 / k for k in range(1, 200)],
    "three short": [40] * 3,
    "lines": [30] * 70,
}


@pytest.fixture(scope="module", params=SIZES)
def source(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("share") / "a.jsonl"
    letters = random.Random(0)
    texts = [
        " ".join(f"{letters.getrandbits(20):05x}" for _ in range(max(1, int(n) // 6))) for n in SIZES[request.param]
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Source.parse(path)


def size(documents):
    return sum(len(document.text.encode()) for document in documents)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_the_share_is_near_or_a_warning_gives_both_figures(source, fraction, seed):
    split = HeldOut.find(source, fraction, seed)
    training, validation = list(split.training()), list(split.validation())
    share = size(validation) / (size(validation) + size(training))
    assert training and validation and share == pytest.approx(split.choice.fraction)
    assert size(validation) + size(training) == size(source.documents())
    assert not {d.text for d in training} & {d.text for d in validation}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split.warn_if_far()
    near = abs(share - fraction) <= TOLERANCE * min(fraction, 1 - fraction) + 1e-12
    assert near != bool(caught)
    if caught:
        assert f"{share:.2%}" in str(caught[0].message) and f"{fraction:.2%}" in str(caught[0].message)


@pytest.mark.parametrize("sizes", [[34_000, 66_000], [100_000], [500_000] + [500] * 1000, [5_000] * 20])
def test_large_documents_are_no_reason_to_miss_the_share(tmp_path, sizes):
    (tmp_path / "c").mkdir()
    for number, length in enumerate(sizes):
        (tmp_path / "c" / f"{number}.txt").write_text("".join(f"{number} line {i}\n" for i in range(length // 10)))
    split = HeldOut.find(Source.parse(tmp_path / "c"), 0.05, 0)
    assert abs(split.choice.fraction - 0.05) <= TOLERANCE * 0.05


def test_whole_documents_are_held_out_where_that_meets_the_share(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"{i} " + "word " * 1000}) + "\n" for i in range(100))
    )
    split = HeldOut.find(Source.parse(tmp_path / "a.jsonl"), 0.05, 0)
    assert split.piece is None and len(list(split.validation())) == 5


def test_neither_order_nor_a_second_copy_changes_the_split(source):
    """Where documents are cut, the length of the pieces follows the size of the corpus, so only the order is free."""
    split = HeldOut.find(source, 0.3, 0)
    path = source.path + ".shuffled.jsonl"
    with open(source.path) as file:
        lines = file.readlines() * (2 if split.piece is None else 1)
    random.Random(1).shuffle(lines)
    with open(path, "w") as file:
        file.writelines(lines)
    again = HeldOut.find(Source.parse(path), 0.3, 0)
    assert {d.text for d in again.validation()} == {d.text for d in split.validation()}


def test_a_split_is_saved_and_found_again(source):
    split = HeldOut.find(source, 0.3, 3)
    assert HeldOut.from_dict(source, 3, json.loads(json.dumps(split.as_dict()))) == split


@pytest.mark.parametrize("fraction", [0.002, 0.05, 0.5])
@pytest.mark.parametrize("skewed", [False, True])
def test_a_sketch_of_bounded_memory_cuts_as_near(monkeypatch, fraction, skewed):
    """Past so many sums positions are merged; the share of the real documents is what the sketch says."""
    monkeypatch.setattr(byte_fraction, "MOST", 4096)
    numbers = np.random.default_rng(1)
    sizes = (numbers.lognormal(4, 2, 30_000) if skewed else numbers.integers(1, 100, 30_000)).astype(int) + 1
    documents = list(
        zip(map(int, numbers.integers(0, 2**64, len(sizes), dtype=np.uint64)), map(int, sizes), strict=True)
    )
    sketch = ByteSketch(fraction)
    for position, length in documents:
        sketch.add(position, length)
        assert len(sketch._sums) <= 4096
    choice = sketch.choose()
    held = sum(length for position, length in documents if choice.holds(position, length))
    assert held / sizes.sum() == pytest.approx(choice.fraction) and choice.is_near(fraction)


def test_the_plain_cut_stays_where_it_is_near():
    """So more documents move none of those there were, while the share stays near."""
    sketch = ByteSketch(0.25)
    for position in range(0, 100):
        sketch.add(position * 2**64 // 100, 10)
    assert sketch.choose().cut == 2**62
