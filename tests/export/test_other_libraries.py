"""The folder in sentence-transformers and ONNX Runtime, where they are installed."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

import unmask

TEXTS = ["the cat sees the moon.", "my aunt"]


def test_sentence_transformers_embeds_as_we_do(exported, trained):
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(exported), trust_remote_code=True, device="cpu")
    assert np.allclose(model.encode(TEXTS), unmask.load(trained, device="cpu").embed(TEXTS).numpy(), atol=1e-5)
    assert model.max_seq_length == 64


@pytest.mark.parametrize("kind", ["exported", "exported_traces"])
def test_onnx_runtime_gives_equal_logits(kind, request, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    folder = request.getfixturevalue(kind)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
    batch = tokenizer(["push rbx [NEXT] ret", "ret"] if "traces" in kind else TEXTS, padding=True, return_tensors="pt")

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids, attention_mask=attention_mask).logits

    names = ("input_ids", "attention_mask")
    batch_dim, seq = torch.export.Dim("batch", max=64), torch.export.Dim("seq", min=2, max=64)
    torch.onnx.export(
        Logits().eval(), tuple(batch[name] for name in names), tmp_path / "model.onnx", dynamo=True, input_names=list(names),
        output_names=["logits"], dynamic_shapes=({0: batch_dim, 1: seq}, {0: batch_dim, 1: seq}),
    )  # fmt: skip
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for part in (batch, {name: batch[name][:1, -2:] for name in names}):
        (found,) = session.run(None, {name: part[name].numpy() for name in names})
        real = part["attention_mask"].bool()
        assert np.allclose(found[real.numpy()], model(**part).logits[real].detach().numpy(), atol=1e-4)


def test_features_of_the_pipeline_are_hidden_states(exported):
    from transformers import pipeline

    tokenizer, model = AutoTokenizer.from_pretrained(exported), AutoModel.from_pretrained(exported)
    found = pipeline("feature-extraction", model=model, tokenizer=tokenizer)(TEXTS[0], return_tensors=True)
    assert torch.allclose(found, model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state, atol=1e-6)
