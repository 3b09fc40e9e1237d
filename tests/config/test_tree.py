"""Config: one typed tree that reads back what it writes and explains what it refuses."""

import inspect
import typing

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import unmask
from unmask.config.config_file import config_yaml, save_config
from unmask.config.model_config import PRESETS
from unmask.config.objective_config import ObjectiveConfig
from unmask.config.tree import Config, explicit_values, known_keys, load_config


def sections(model=Config):
    yield model
    for info in model.model_fields.values():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from sections(info.annotation)


@pytest.mark.parametrize("preset", [*PRESETS, None])
@pytest.mark.parametrize("comments", [True, False])
def test_what_is_written_reads_back(tmp_path, preset, comments):
    config = load_config(
        overrides=[
            f"model.preset={preset or 'null'}",
            "optim.lr=3e-5",
            "data.valid_source='a: b # c'",
            "train.devices=2",
        ]
    )
    path = tmp_path / "c.yaml"
    path.write_text(config_yaml(config, comments), encoding="utf-8")
    assert load_config(path) == config
    save_config(config, path)
    assert load_config(path) == config
    for name, size in PRESETS.get(preset, {}).items():
        assert getattr(config.model, name) == size


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({}, optional={
        "lr": st.floats(1e-12, 1e6), "beta1": st.floats(0, 1, exclude_max=True), "warmup": st.floats(0, 1), "clip": st.floats(0, 1e9),
    }),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)  # fmt: skip
def test_any_value_reads_back(optim, text):
    config = load_config(base={"optim": optim, "run": text, "data": {"valid_source": text}})
    assert Config.model_validate(yaml.safe_load(config_yaml(config))) == config


@pytest.mark.parametrize("section", list(sections()), ids=lambda s: s.__name__)
def test_every_key_has_a_description(section):
    assert section.__doc__
    for name, info in section.model_fields.items():
        assert info.description, f"{section.__name__}.{name} has no description"


def test_the_printed_config_explains_every_value():
    printed = config_yaml(load_config())
    for line in printed.splitlines():
        assert "  # " in line, line
    for section in sections():
        for info in section.model_fields.values():
            assert info.description in printed
            if typing.get_origin(info.annotation) is typing.Literal:
                assert all(str(choice) in printed for choice in typing.get_args(info.annotation))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optim.lrr=1", "optim.lr"),
        ("train.step=1", "train.steps"),
        ("model.n_head=1", "model.nhead"),
        ("trian.steps=1", "train"),
        ("data.blocksize=1", "data.block_size"),
        ("lr=1", "optim.lr"),
        ("sed=1", "seed"),
    ],
)
def test_an_unknown_key_names_the_nearest(override, nearest):
    with pytest.raises(ValueError, match="There is no config key") as raised:
        load_config(overrides=[override])
    assert f"Did you mean '{nearest}'?" in str(raised.value)
    assert override in str(raised.value) and "--print-config" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("override", ["objective.colour=1", "foo=1", "train.learning_rate=1", "optim.wd=1"])
def test_a_key_unlike_all_others_gets_no_suggestion(override):
    with pytest.raises(ValueError, match="There is no config key") as raised:
        load_config(overrides=[override])
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "train.steps"),
        ("train.steps=1.5", "train.steps"),
        ("train.steps=null", "train.steps"),
        ("optim.lr=-1", "optim.lr"),
        ("optim.lr=[1, 2]", "optim.lr"),
        ("objective.name=gpt", "objective.name"),
        ("train.devices=some", "train.devices"),
        ("train.devices=0", "train.devices"),
        ("model.preset=huge", "model.preset"),
        ("data.source=", "data.source"),
        ("seed=yes", "seed"),
        ("train.steps=1:30", "train.steps"),
        ("train=5", "train"),
        ("objective.probability=1.5", "objective.probability"),
        ("train.resume=perhaps", "train.resume"),
    ],
)
def test_invalid_values_are_named(override, key):
    with pytest.raises(ValueError, match="is not valid") as raised:
        load_config(overrides=[override])
    assert f"{key} = " in str(raised.value), str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.batch_size=10", "train.accumulate=3"], ["train.batch_size=10", "train.accumulate=3"]),
        (["data.block_size=2048"], ["data.block_size=2048", "model.max_length"]),
        (["objective.schedule=cosine", "objective.selection=fixed_count"], ["objective.selection=bernoulli"]),
    ],
)
def test_inconsistent_values_are_refused(overrides, words):
    with pytest.raises(ValueError, match="is not valid") as raised:
        load_config(overrides=overrides)
    assert all(word in str(raised.value) for word in words)


def test_later_sources_win(tmp_path):
    base = {"train": {"steps": 1, "batch_size": 2, "log_every": 3}, "seed": 4}
    path = tmp_path / "c.yaml"
    path.write_text("train: {batch_size: 20, log_every: 30}\n")
    config = load_config(path, ["train.log_every=300", "train.log_every=301"], base)
    assert (config.seed, config.train.steps, config.train.batch_size, config.train.log_every) == (4, 1, 20, 301)
    assert config.train.checkpoint_every == Config().train.checkpoint_every
    assert base == {"train": {"steps": 1, "batch_size": 2, "log_every": 3}, "seed": 4}


def test_a_size_given_wins_over_its_preset():
    config = load_config(overrides=["model.preset=tiny", "model.num_layers=7"])
    assert config.model.num_layers == 7 and config.model.d_model == PRESETS["tiny"]["d_model"]


@pytest.mark.parametrize("text", ["null", "false", "1e-3", "0.5", "12"])
def test_other_override_values_are_yaml(text):
    if text == "null":
        assert load_config(overrides=[f"model.dim_feedforward={text}"]).model.dim_feedforward is None
    elif text == "false":
        assert load_config(overrides=[f"train.resume={text}"]).train.resume is False
    else:
        assert load_config(overrides=[f"optim.clip={text}"]).optim.clip == float(text)


TEXTS = [
    "20240101",
    "007",
    "1e3",
    "no",
    "off",
    "2024-01-01",
    "1_000",
    "0x10",
    "12:30",
    "a: b # c",
    "[a]",
    "{x",
    "!tag",
    "it's",
    "~/runs",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", ["run", "data.field", "data.source", "data.store"])
def test_text_values_stay_text(tmp_path, key, text):
    if key == "data.source" and text.startswith("{"):
        with pytest.raises(ValueError, match=r"0\.3\}'\. `unmask train"):  # the beginning of a mixture
            load_config(overrides=[f"{key}={text}"])
        return
    config = load_config(overrides=[f"{key}={text}"])
    *section, leaf = key.split(".")
    assert getattr(config.data if section else config, leaf) == text
    save_config(config, tmp_path / "c.yaml")
    assert load_config(tmp_path / "c.yaml") == config


def test_null_is_none_for_optional_keys_and_text_for_others():
    assert load_config(overrides=["data.store=null", "run=null"]).model_dump(include={"run", "data"})["run"] == "null"
    assert load_config(overrides=["data.store=null"]).data.store is None
    assert load_config(overrides=["data.store="]).data.store is None
    assert load_config(overrides=["data.store='null'"]).data.store == "null"


@pytest.mark.parametrize(("text", "number"), [("0100", 100), ("1_000", 1000), ("1e3", 1000), ("+5", 5)])
def test_numbers_are_decimal(text, number):
    assert load_config(overrides=[f"train.steps={text}"]).train.steps == number


def test_an_unquoted_number_for_a_text_key_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("run: 20240101\n")
    with pytest.raises(ValueError, match=r"run = 20240101: text was expected.*quotes"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("override", ["steps", "=5", "", "seed.deep=1"])
def test_malformed_overrides_are_refused(override):
    with pytest.raises(ValueError, match=r"not an override|is a value, not a section|is not valid"):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: {steps: 1", "not valid YAML"),
        (b"- 1\n- 2\n", "holds a list"),
        (b"\xff\xfe\xfa", "not valid YAML"),
        (b"5", "holds a int"),
    ],
)
def test_unreadable_files_are_explained(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        load_config(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="--print-config"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="no config file"):
        load_config(tmp_path)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("")
    assert load_config(tmp_path / "c.yaml") == load_config() == Config()


def test_a_config_is_immutable():
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.steps = 5


@pytest.mark.parametrize("override, answer", [
    ("objective.exact_count=true", "'objective.exact_count'. It is now called 'objective.selection'"),
    ("objective.level=constant", "It is now called 'objective.mask_rate_law'"),
    ("objective.mask_rate=0.5", "It is now called 'objective.mask_replace_prob'"),
    ("model.neighbour_layers=1", "It is now called 'model.local_init_layers'"),
    ("objective.selection=coins", "'coins' is now called 'bernoulli'"),
    ("objective.selection=count", "'count' is now called 'fixed_count'"),
])  # fmt: skip
def test_a_renamed_key_or_value_is_answered_with_its_current_name(override, answer):
    with pytest.raises(ValueError) as refused:
        load_config(overrides=[override])
    assert answer in str(refused.value)


def test_every_current_name_of_the_renaming_table_exists():
    """The renaming table points to existing names only."""
    from unmask.decode.families import COMPOSED_ORDERS, REMASKING
    from unmask.decode.named import make_rules
    from unmask.suggestions import RENAMED

    keys = {key.split(".")[-1] for key in known_keys(Config)}
    values = {word for info in ObjectiveConfig.model_fields.values() for word in typing.get_args(info.annotation)}
    known = (
        keys
        | values
        | set(REMASKING)
        | set(COMPOSED_ORDERS)
        | set(inspect.signature(make_rules).parameters)
        | set(unmask.__all__)
    )
    assert not set(RENAMED.values()) - known and not set(RENAMED) & (keys | set(REMASKING) | set(unmask.__all__))


@pytest.mark.parametrize("given", [
    [], ["model.preset=tiny", "model.num_layers=3"], ["objective.name=bert", "objective.probability=0.3"], ["objective.schedule=cosine"], ["seed=4", "optim.lr=1"],
    ["model.preset=null", "model.d_model=64", "model.nhead=2"],
])  # fmt: skip
def test_explicit_values_rebuild_the_config(given):
    config = load_config(overrides=given)
    assert load_config(base=explicit_values(config)) == config


def test_overrides_of_preset_and_scheme_replace_the_values_of_the_earlier_ones():
    base = explicit_values(load_config(overrides=["model.preset=small", "train.steps=7", "model.dropout=0.1"]))
    config = load_config(None, ["model.preset=tiny", "objective.name=bert"], base)
    assert config.objective == load_config(overrides=["objective.name=bert"]).objective
    assert config.model == load_config(overrides=["model.preset=tiny", "model.dropout=0.1"]).model
    assert config.train.steps == 7
