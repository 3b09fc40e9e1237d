"""Growth of cost: the fitted power, and the points that are measured."""

import pytest
from benchmarks.scaling import exponent, measure, plot, point, rows_of

from benchmarks import growth, loader
from unmask.measure.flops import Size
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SIZE = Size(layers=1, width=16, heads=2, feedforward=32, vocabulary=60)


def test_a_power_law_is_found():
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert exponent([1, 10, 100], [5, 5, 5]) == pytest.approx(0)
    assert exponent([1, 2, 4, 8], [99, 12, 48, 192]) == pytest.approx(2)  # small points are mostly fixed cost


def test_one_thing_grows_at_a_time():
    assert point("sequence length", 64, SIZE) == (SIZE, 1, 64)
    assert point("vocabulary", 99, SIZE)[0].vocabulary == 99
    assert point("batch", 7, SIZE)[1] == 7
    assert point("depth", 3, SIZE)[0].layers == 3


def test_every_axis_is_measured_and_drawn(tmp_path):
    axes = {"sequence length": (16, 32), "vocabulary": (40, 80), "batch": (1, 2), "depth": (1, 2)}
    found = measure(1, axes, SIZE)
    assert 1 < found["sequence length"]["law"] < 2 and found["depth"]["law"] == 1
    assert found["depth"]["flops"][1] < 2 * found["depth"]["flops"][0]  # the vocabulary's product does not grow
    assert [row.work for row in rows_of(found)] == [f"cost grows with {axis}, power" for axis in axes]
    plot(found, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_documents_shards_and_blanks_are_measured_and_drawn(tmp_path, monkeypatch):
    small = RotaryTransformerMLMModel(growth.decode.VOCAB, 8, 1, 1, padding_idx=0, mask_idx=1)
    monkeypatch.setattr(growth.decode, "network", lambda: small)
    axes = {"documents": (8, 16), "shards": (1, 3), "blanks": (2, 4)}
    monkeypatch.setattr(growth, "DOCUMENTS", 12)
    found = growth.measure(1, axes)
    assert set(growth.AXES) == set(found) and [row.met is not None for row in rows_of(found)] == [True] * 3
    plot(found, tmp_path / "growth.png", "seconds")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_shards_hold_the_documents_of_one_store(tmp_path):
    for shards in (1, 3):
        (tmp_path / str(shards)).mkdir()
    one, three = (loader.synthetic_store(tmp_path / str(n), 30_000, shards=n) for n in (1, 3))
    assert one.document_tokens.tolist() == three.document_tokens.tolist()
    assert all((one.document(i) == three.document(i)).all() for i in range(len(one.document_tokens)))
