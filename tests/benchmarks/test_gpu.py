"""The accelerator's benchmark runs, at the size of a toy and on the CPU; only the device differs."""

from benchmarks.gpu import measure

from unmask.measure.flops import Size

SIZE = Size(layers=1, width=16, heads=2, feedforward=32, vocabulary=60)


def test_every_work_is_measured():
    rows, report = measure(SIZE, rows=2, length=32, turns=1, device="cpu", compiled=False)
    assert len(report["works"]) == 3 and all(work["tflops"] > 0 for work in report["works"].values())
    assert [row.beside for row in rows].count("matrix products alone") == 3
    packed = report["works"]["MLM step, packed documents"]
    assert packed["tokens"] < 2 * 2 * 32 and packed["step_flops"] > 0
