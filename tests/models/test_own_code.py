"""Diffusion language models with their own code: logits of the original, facts that are checked, and no code without trust."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import unmask
from tests.models.own_code_folders import KINDS, original, own_code_folder
from unmask.models.diffusion_lms import DIFFUSION_LMS
from unmask.models.published_call import PublishedCall
from unmask.models.shift_evidence import TEXT


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory, _offline):
    home = tmp_path_factory.mktemp("own")
    return {kind: own_code_folder(kind, home / kind) for kind in KINDS}


def own_logits(kind, model, ids):
    """Logits for one row, by the call that the authors publish; position i predicts token i."""
    if kind == "mdlm":
        return model(ids, timesteps=torch.zeros(len(ids)))
    if kind == "llada2":
        blocks = torch.arange(ids.shape[1]) // 4
        allowed = blocks[None] <= blocks[:, None]
        return model(ids, attention_mask=allowed.float().log()[None, None].expand(len(ids), -1, -1, -1)).logits
    logits = model(ids).logits
    return torch.cat([logits[:, :1], logits[:, :-1]], 1) if kind == "dream" else logits


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_originals_with_padding_on_either_side(kind, folders):
    loaded = unmask.load(folders[kind], device="cpu", trust_remote_code=True)
    ours, theirs = loaded.model, original(folders[kind])
    rows = [torch.randint(5, 290, (n,), generator=torch.Generator().manual_seed(n)) for n in (11, 7, 9)]
    rows[0][3] = loaded.tokenizer.mask_token_id
    expected = torch.cat([own_logits(kind, theirs, row[None])[0] for row in rows])
    with torch.no_grad():
        for side in ("left", "right"):
            widths = [(13 - len(row), 0) if side == "left" else (0, 13 - len(row)) for row in rows]
            ids = torch.stack([F.pad(row, width) for row, width in zip(rows, widths, strict=True)])
            real = torch.stack([F.pad(torch.ones_like(row), w) for row, w in zip(rows, widths, strict=True)]).bool()
            found = ours(ids, real)[real]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            at = ours.logits_at(ours.hidden_states(ids, real), real)
            torch.testing.assert_close(at, expected, atol=1e-4, rtol=1e-4)
        packed, segments = torch.cat(rows)[None], torch.cat([torch.full_like(r, n) for n, r in enumerate(rows)])[None]
        torch.testing.assert_close(ours(packed, segment_ids=segments)[0], expected, atol=1e-4, rtol=1e-4)
    assert (
        ours.max_length == 64
        and ours.shift is (kind == "dream")
        and ours.causal_block == (4 if kind == "llada2" else None)
    )


def test_no_code_runs_without_trust(folders, tmp_path):
    folder = Path(shutil.copytree(folders["llada"], tmp_path / "evil"))
    for file in ("modeling_own.py", "configuration_own.py"):
        (folder / file).write_text("raise SystemExit('code ran')\n")
    with pytest.raises(ValueError, match=r"configuration_own\.py, modeling_own\.py.*--trust-remote-code"):
        unmask.load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "llama"})
    )  # a class of transformers by its type
    with pytest.raises(ValueError, match="--trust-remote-code"):
        unmask.load(folder)


def test_the_mask_is_found_or_given(folders, tmp_path):
    mdlm = unmask.load(folders["mdlm"], device="cpu", trust_remote_code=True)
    assert mdlm.tokenizer.mask_token_id == mdlm.model.num_tokens - 1 and mdlm.tokenizer.mask_token == "[MASK]"
    dream = unmask.load(folders["dream"], device="cpu", trust_remote_code=True)
    assert dream.tokenizer.mask_token == "<|mask|>"
    nameless = own_code_folder("dream", tmp_path / "nameless", {"mask_token_id": None, "architectures": ["OtherModel"]})
    with pytest.raises(ValueError, match="--mask-token"):
        unmask.load(nameless, trust_remote_code=True)
    given = unmask.load(nameless, device="cpu", trust_remote_code=True, mask_token="<|mask|>", shift=True)
    assert given.model.mask_idx == dream.model.mask_idx and given.model.shift
    by_id = unmask.load(nameless, device="cpu", trust_remote_code=True, mask_token=dream.model.mask_idx)
    assert by_id.tokenizer.mask_token == "<|mask|>" and not by_id.model.shift
    with pytest.raises(ValueError, match="no token '<nothing>'"):
        unmask.load(nameless, trust_remote_code=True, mask_token="<nothing>")


def test_claims_that_the_network_contradicts_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="does not follow a block mask"):
        unmask.load(folders["llada"], trust_remote_code=True, attention_block=4)
    timed = own_code_folder("mdlm", tmp_path / "timed", {"time_conditioning": True})
    with pytest.raises(ValueError, match="depend on the time"):
        unmask.load(timed, trust_remote_code=True)
    causal = Path(shutil.copytree(folders["llada"], tmp_path / "causal"))  # transformers keeps the classes of a folder
    file = causal / "modeling_own.py"
    file.write_text(file.read_text().replace("attn_mask=mask)", "is_causal=True)"))
    with pytest.raises(ValueError, match="is causal"):
        unmask.load(causal, trust_remote_code=True)
    broken = Path(shutil.copytree(folders["llada"], tmp_path / "broken"))
    (broken / "modeling_own.py").write_text("import no_such_package\n")
    with pytest.raises(ValueError, match=r"code of .* fails"):
        unmask.load(broken, trust_remote_code=True)


@pytest.mark.slow
@pytest.mark.parametrize("shifted", [False, True])
def test_a_trained_network_tells_its_shift(shifted, tmp_path):
    """Trained on the text itself: a wrong claim is refused, a right one and none are taken."""
    folder = own_code_folder("dream", tmp_path / "trained", {"architectures": ["OtherModel"]}, std=0.05)
    loaded = unmask.load(folder, device="cpu", trust_remote_code=True, shift=shifted)
    ids = torch.tensor(loaded.tokenizer.encode(TEXT))[:60]
    net = loaded.model.train()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    torch.manual_seed(0)
    for _ in range(150):
        hidden = torch.rand(8, len(ids)) < 0.25
        logits = net(torch.where(hidden, net.mask_idx, ids))
        loss = F.cross_entropy(logits[hidden], ids.expand(8, -1)[hidden])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["OtherModel"]}))
    assert unmask.load(folder, device="cpu", trust_remote_code=True).model.shift is shifted
    assert unmask.load(folder, device="cpu", trust_remote_code=True, shift=shifted).model.shift is shifted
    with pytest.raises(ValueError, match="--no-shift" if not shifted else "--shift"):
        unmask.load(folder, device="cpu", trust_remote_code=True, shift=not shifted)


def test_the_table_of_published_classes_has_their_names():
    assert set(DIFFUSION_LMS) == {name for _, name, *_ in KINDS.values()} and "shifted" in DIFFUSION_LMS.table()
    assert issubclass(PublishedCall, torch.nn.Module)
