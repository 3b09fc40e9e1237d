"""Mixtures of stores: exact ratios, each store passed through without skipping or repeating a row, resumable anywhere."""

import json
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unmask
from tests.data.conftest import make_documents
from tests.data.test_preparation import write_jsonl
from unmask.build.stores import document_weights, prepare_data, with_store
from unmask.config.mixture import Mixture
from unmask.data.mixing import training_store
from unmask.data.preparation import Prepared, prepare
from unmask.data.store.store_mix import StoreMix, draws, integer_weights
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.resume import config_to_resume
from unmask.training.data import InfiniteSampler, TokenStoreData
from unmask.training.mixed_rows import MixedRows

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three prepared folders with one tokenizer, of 100, 60 and 25 documents, and one with another tokenizer."""
    folder = tmp_path_factory.mktemp("stores")
    options = {"valid_fraction": 0.2, "workers": 1}
    made = {}
    for number, (name, count) in enumerate((("a", 100), ("b", 60), ("c", 25))):
        path = write_jsonl(folder / f"{name}.jsonl", [d.text for d in make_documents(count, seed=number)])
        tokenizer = {"tokenizer": made["a"].tokenizer} if made else {"vocab_size": 300}
        made[name] = prepare(path, folder / name, **options, **tokenizer)
    prepare(folder / "b.jsonl", folder / "other", vocab_size=290, **options)
    return folder


def config_of(stores, **weights):
    source = {str(stores / name): weight for name, weight in weights.items()}
    return unmask.Config.model_validate({"data": {"source": source, "block_size": 32}})


def data_of(prepared, rank=0, ranks=1, step=0, workers=0, collate=None, **options):
    settings = {
        "block_size": 32,
        "batch_size": 12,
        "accumulate": 1,
        "evaluate_rows": 9,
        "steps": 400,
        "seed": 3,
        **options,
    }
    same = collate or dict
    data = TokenStoreData(
        training_store(prepared), TokenStore.open(prepared.valid), collate=same, collate_valid=same, workers=workers, **settings
    )  # fmt: skip
    data.trainer = SimpleNamespace(world_size=ranks, global_rank=rank, global_step=step)
    return data


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 10**9))
def test_every_run_of_samples_has_the_ratio_of_the_weights(weights, start):
    """Sample ``g`` is the next draw of its store, for any ``g``; counts differ from the ratio by less than the number of stores."""
    number = np.arange(start, start + 200)
    found = draws(number, weights)
    total = sum(weights)
    for store, weight in enumerate(weights):
        mine = found.store == store
        earlier = found.earlier[mine]
        assert np.array_equal(earlier, np.arange(len(earlier)) + (earlier[0] if len(earlier) else 0))
        assert np.all(np.abs(earlier - number[mine] * weight / total) < len(weights))
    if start == 0:
        assert all(found.earlier[found.store == s][:1].tolist() in ([0], []) for s in range(len(weights)))
    period = draws(np.arange(total), weights).store
    assert np.bincount(period, minlength=len(weights)).tolist() == weights


def test_weights_become_integers_of_the_same_ratio():
    assert Mixture.parse({"a": 0.7, "b": 0.3}) == Mixture.parse("{a: 0.7, b: 0.3}")
    from fractions import Fraction

    assert integer_weights([Fraction("0.7"), Fraction("0.2"), Fraction("0.1")]) == (7, 2, 1)
    rounded = integer_weights([Fraction("0.333333333"), Fraction("0.666666667")])
    assert sum(rounded) <= 10**6 + 2 and abs(rounded[0] / sum(rounded) - 1 / 3) < 1e-6


def rows_taken(prepared, batches, ranks=1, workers=0, resumes=(), **options):
    """Return (row of the mixture, pass over its store) of every sample of a run that stops and resumes at some steps."""
    taken = []
    for start, stop in zip((0, *resumes), (*resumes, batches), strict=True):
        parts = []
        for rank in range(ranks):
            loader = data_of(prepared, rank, ranks, start, workers, **options).train_dataloader()
            parts.append(list(islice(iter(loader), stop - start)))
        taken += [np.concatenate([part[step]["example_id"] for part in parts]) for step in range(stop - start)]
    return np.concatenate(taken).tolist()


def check_accounting(prepared, taken, rows):
    """Each store's rows come once in every complete pass over it, and at most once in the unfinished one."""
    store = training_store(prepared)
    if isinstance(store, StoreMix):
        sizes, weights = rows.sizes, rows.weights
    else:  # the example ids of one store are the same in every pass
        assert sorted(Counter(taken).values())[-1] - sorted(Counter(taken).values())[0] <= 1
        assert len(taken) < len(rows) or set(taken) == set(range(len(rows)))
        return
    total, first = sum(sizes), 0
    assert len(set(taken)) == len(taken)  # a row of a pass over its store comes once
    for size, weight in zip(sizes, weights, strict=True):
        mine = [each for each in taken if first <= each % total < first + size]
        passes = Counter(each // total for each in mine)
        complete, rest = divmod(len(mine), size)
        assert passes == Counter({**dict.fromkeys(range(complete), size), **({complete: rest} if rest else {})})
        assert abs(len(mine) - len(taken) * weight / sum(weights)) < len(sizes)
        first += size


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("rows", ["stream", "packed", "document"])
def test_row_accounting(stores, tmp_path, mixed, ranks, rows):
    """The multiset of rows is exact for any number of ranks and a resume in the middle, over several passes."""
    prepared = prepare_data(config_of(stores, a=0.5, b=0.2, c=0.3), tmp_path) if mixed else Prepared.open(stores / "a")
    whole = rows_taken(prepared, 30, rows=rows)
    check_accounting(prepared, whole, data_of(prepared, rows=rows).train_rows)
    assert rows_taken(prepared, 30, ranks, resumes=(7, 8, 21), rows=rows) == whole


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("ranks, workers", [(1, 1), (1, 3), (2, 1), (3, 3)])
def test_row_accounting_of_loader_processes(stores, tmp_path, mixed, ranks, workers):
    prepared = prepare_data(config_of(stores, a=0.5, b=0.2, c=0.3), tmp_path) if mixed else Prepared.open(stores / "a")
    assert rows_taken(prepared, 12, ranks, workers, resumes=(5,)) == rows_taken(prepared, 12)


def test_a_row_is_that_of_its_store_and_masks_differ_between_passes(stores, tmp_path):
    prepared = prepare_data(config_of(stores, a=1, c=3), tmp_path)
    data = data_of(prepared)
    assert isinstance(data.train_rows, MixedRows)
    members, sizes = data.train_rows.members, data.train_rows.sizes
    batches = list(islice(data.train_dataloader(), 20))
    total = sum(sizes)
    for batch in batches:
        for row, ids in zip(batch["example_id"] % total, batch["input_ids"], strict=True):
            member, first = (0, 0) if row < sizes[0] else (1, sizes[0])
            assert np.array_equal(members[member].__getitems__(np.array([[0, 0, row - first]]))["input_ids"][0], ids)
    places = np.concatenate([batch["epoch"] * total + batch["epoch_place"] for batch in batches])
    assert places.tolist() == list(range(240))  # mask rates are spread evenly over consecutive samples
    assert np.allclose(np.concatenate([batch["progress"] for batch in batches]), np.arange(240) / (400 * 12))
    again = [row for batch in batches for row in batch["example_id"].tolist() if row >= total]
    assert again, "a store was passed through more than once"
    assert (
        data.examples_of(3)
        == InfiniteSampler(total, 12, 3, mixed=data.train_rows).samples(np.arange(36, 48))[:, 2].tolist()
    )
    assert len(list(data.val_dataloader())) == 1


def test_the_order_depends_on_the_seed_and_the_weights(stores, tmp_path):
    first = prepare_data(config_of(stores, a=1, b=1), tmp_path / "one")
    second = prepare_data(config_of(stores, a=1, b=2), tmp_path / "two")
    runs = [rows_taken(first, 4), rows_taken(first, 4, seed=4), rows_taken(second, 4)]
    assert rows_taken(first, 4) == runs[0] and len({tuple(run) for run in runs}) == 3


def test_a_mixture_reads_like_one_store(stores, tmp_path):
    config = config_of(stores, a=0.7, b=0.3)
    prepared = prepare_data(config, tmp_path)
    members = [Prepared.open(stores / name) for name in "ab"]
    assert prepared.train_tokens == sum(each.train_tokens for each in members)
    for stage in ("train", "valid"):
        union = TokenStore.open(prepared.folder / stage, verify=True)
        parts = [TokenStore.open(each.folder / stage) for each in members]
        assert [d.tolist() for d in union] == [d.tolist() for part in parts for d in part]
        assert len([*(prepared.folder / stage).iterdir()]) == 1  # the manifest; no token is copied
    assert prepare_data(config, tmp_path) == prepared
    reopened = with_store(unmask.Config.model_validate({"data": {"store": str(prepared.folder)}}))
    assert Mixture.parse(reopened.data.source) == Mixture.parse(config.data.source)


def test_sources_are_prepared_with_the_tokenizer_of_the_heaviest_or_of_a_prepared_folder(stores, tmp_path):
    raw = {str(stores / "b.jsonl"): 1, str(stores / "c.jsonl"): 2}
    options = {"vocab_size": 280, "valid_fraction": 0.2}
    config = unmask.Config.model_validate({"data": {"source": raw, **options}})
    prepared = prepare_data(config, tmp_path / "raw", workers=1)
    alone = prepare(stores / "c.jsonl", tmp_path / "alone", workers=1, **options)
    assert prepared.tokenizer.read_bytes() == alone.tokenizer.read_bytes()
    folders = [path.name for path in (prepared.folder / "sources").iterdir() if path.is_dir()]
    assert sorted(name.rpartition("-")[0] for name in folders) == ["b.jsonl", "c.jsonl"]
    config = unmask.Config.model_validate({"data": {"source": {str(stores / "a"): 1, str(stores / "c.jsonl"): 1}}})
    mixed = prepare_data(config, tmp_path / "mixed", workers=1)
    assert mixed.tokenizer.read_bytes() == (stores / "a" / "tokenizer.json").read_bytes()


def test_mixtures_that_do_not_fit_are_refused(stores, tmp_path):
    with pytest.raises(ValueError, match=r"The tokenizer of .*other \(290 ids\) differs from the tokenizer of .*/a"):
        prepare_data(config_of(stores, a=1, other=1), tmp_path / "x")
    for source, message in (
        ("{a: 0.7}", "it has 1 sources"),
        ("{a: 0.7, b: -1}", "weight of 'b' is -1"),
        ("{a: 0.7, b: x}", "weight of 'b' is 'x'"),
        ("{a 0.7", "begins like a mixture"),
        ({"a": True, "b": 1}, "weight of 'a' is True"),
    ):
        with pytest.raises(ValueError, match=message):
            unmask.Config.model_validate({"data": {"source": source}})
    config = config_of(stores, a=1, b=1)
    prepare_data(config, tmp_path / "y")
    with pytest.raises(ValueError, match=r"another mixture: weights \(was \[1, 1\], now \[1, 2\]\)"):
        prepare_data(config_of(stores, a=1, b=2), tmp_path / "y")
    facts = json.loads((tmp_path / "y" / "data" / "mixture.json").read_text())
    facts["stores"][1][0] = "0" * 64
    (tmp_path / "y" / "data" / "mixture.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"The store of .*/b changed since the mixture"):
        prepare_data(config, tmp_path / "y")
    for option, value in (("valid_source", "v.txt"), ("identity_weights", 0.8)):
        wrong = unmask.Config.model_validate(
            {"data": {**config.data.model_dump(exclude_unset=True), option: value, "rows": "document"}}
        )
        with pytest.raises(ValueError, match="mixture"):
            prepared = prepare_data(wrong, tmp_path / "z")
            document_weights(wrong.data, prepared, Tokenizer.load(prepared.tokenizer))


def test_a_mixture_is_written_alike_in_a_file_and_on_the_command_line(stores, tmp_path):
    """A resumed run compares it like any other key."""
    file = tmp_path / "config.yaml"
    file.write_text("data:\n  source:\n    books: 0.7\n    web.jsonl: 0.3\n")
    from_file = unmask.load_config(file)
    from_line = unmask.load_config(overrides=["data.source={books: 0.7, web.jsonl: 0.3}"])
    assert from_file.data.source == from_line.data.source == "{books: 0.7, web.jsonl: 0.3}"
    run = tmp_path / "run"
    config = unmask.Config.model_validate({"run": str(run), "data": {"source": {"books": 0.7, "web.jsonl": 0.3}}})
    from unmask.config.config_file import save_config

    run.mkdir()
    save_config(config, run / "config.yaml")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "index.json").write_text("{}")
    assert config_to_resume(file, [f"run={run}"]).config.data.source == config.data.source
    file.write_text("data:\n  source:\n    books: 0.6\n    web.jsonl: 0.4\n")
    with pytest.raises(ValueError, match=r"data\.source \(saved: '\{books: 0\.7"):
        config_to_resume(file, [f"run={run}"])


@pytest.mark.slow
def test_a_run_on_a_mixture_resumes_bit_for_bit(stores, tmp_path):
    def config(run, steps):
        return {
            "run": str(tmp_path / run),
            "data": {"source": {str(stores / "a"): 0.7, str(stores / "b"): 0.3}, "block_size": 32},
            "model": {"preset": None, "d_model": 16, "num_layers": 1, "nhead": 2, "max_length": 64},
            "optim": {"decay": "constant", "warmup": 0.0},  # else the learning rate depends on the number of steps
            "train": {"steps": steps, "batch_size": 8, "evaluate_every": 4, "checkpoint_every": 4, "precision": "fp32", "logger": "none"},
        }  # fmt: skip

    whole = unmask.train(config("whole", 12))
    unmask.train(config("parts", 5))
    resumed = unmask.train(config("parts", 12))
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert next(iter(unmask.load(whole).evaluate()["models"].values()))["documents"] > 10
