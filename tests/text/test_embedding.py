"""Laws of embeddings: no dependence on batches or order; layers and CLS are those of ``transformers``."""

import pytest
import torch
import transformers

import unmask
from unmask.export import register
from unmask.export.hub_code.modeling_unmask import UnmaskConfig, UnmaskForMaskedLM
from unmask.export.hub_weights import hub_sizes, hub_weights
from unmask.text.embedding import POOLINGS, EmbeddingOptions

TEXTS = ["the cat sees the moon.", "a dog", "my aunt likes old trees. the cat finds a stone.", "a", "the cat"]


@pytest.fixture(scope="module")
def ours(trained):
    return unmask.load(trained, device="cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted({w for t in TEXTS for w in t.replace(".", " .").split()}),
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).eval().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", list(POOLINGS))
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_vectors_depend_on_neither_batch_nor_order(ours, bert, pooling, layer):
    for model in (unmask.load(bert, device="cpu"), *([] if pooling == "cls" else [ours])):
        whole = model.embed(TEXTS, pooling=pooling, layer=layer)
        for size in (1, 2):
            order = [3, 0, 4, 2, 1]
            parts = model.embed([TEXTS[i] for i in order], pooling=pooling, layer=layer, batch_size=size)
            for place, i in enumerate(order):
                assert torch.allclose(parts[place], whole[i], atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, -1, -2])
def test_cls_and_layers_are_those_of_transformers(bert, layer):
    model, theirs = unmask.load(bert, device="cpu"), transformers.AutoModel.from_pretrained(bert).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    for text in TEXTS:
        with torch.no_grad():
            states = theirs(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[layer][0]
        assert torch.allclose(model.embed(text, pooling="cls", layer=layer), states[0], atol=1e-5)
        mean = model.embed(text, layer=layer, special_tokens=True, normalise=True)
        assert torch.allclose(mean, torch.nn.functional.normalize(states.mean(0), dim=0), atol=1e-5)
    assert torch.allclose(model.embed(TEXTS, pooling="cls"), model.embed(TEXTS, pooling="cls", layer=3), atol=1e-5)


def test_layers_are_those_of_the_exported_model(ours):
    register()
    network = ours.model
    theirs = UnmaskForMaskedLM(UnmaskConfig(**hub_sizes(network))).eval()
    theirs.load_state_dict(hub_weights(network), strict=False)
    ids = torch.tensor([ours.tokenizer.encode(TEXTS[0])])
    with torch.no_grad():
        states = theirs.model(ids, output_hidden_states=True).hidden_states
    for layer, expected in enumerate(states):
        assert torch.allclose(ours.embed([TEXTS[0]], pooling="token", layer=layer)[0], expected[0], atol=1e-5)


def test_options_are_refused_with_a_remedy(ours):
    with pytest.raises(ValueError, match=r"layers 0 .* to 2, and layer 7"):
        ours.embed("the cat", layer=7)
    with pytest.raises(ValueError, match="use mean"):
        ours.embed("the cat", pooling="cls")
    with pytest.raises(ValueError, match="leave one of the two out"):
        EmbeddingOptions("cls", special_tokens=False)
    with pytest.raises(ValueError, match="no pooling 'max'"):
        EmbeddingOptions("max")
    assert torch.allclose(ours.embed("the cat " * 60, truncate=True), ours.embed("the cat " * 90, truncate=True))
