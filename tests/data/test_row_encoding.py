"""Rows with answers: which tokens are learnt, the same in every format, store and number of workers."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.supervised_rows import chat_tokenizer, sums, write_rows
from unmask.data.corpus.row_shapes import row_as_text
from unmask.data.corpus.sources import Source
from unmask.data.preparation import prepare
from unmask.data.recipe import Recipe
from unmask.data.row_encoding import RowEncoder
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.load(chat_tokenizer(tmp_path_factory.mktemp("chat")))


def chat(answer):
    return {"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": answer}]}


def learnt(tokenizer, row):
    """The text of the whole row, and that of its learnt tokens, special tokens written out."""
    encoded = RowEncoder(tokenizer, tokenizer.eos_token_id)(row_as_text(row, "a test"))
    kept = [id for id, flag in zip(encoded.ids, encoded.learnt, strict=True) if flag]
    return tokenizer.decode(encoded.ids, False), tokenizer.decode(kept, False)


def test_only_answers_are_learnt(tokenizer):
    assert learnt(tokenizer, {"prompt": "1+1=", "answer": " 2"}) == ("1+1= 2[EOS]", " 2[EOS]")
    assert learnt(tokenizer, {"prompt": "say nothing", "answer": ""})[1] == "[EOS]"
    assert learnt(tokenizer, {"before": "a(", "middle": "x", "after": ")"}) == ("a(x)[EOS]", "x")
    turns = [("system", "s"), ("user", "hi"), ("assistant", "yo"), ("user", "more"), ("assistant", "no")]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    whole = "<system>s[EOS]<user>hi[EOS]<assistant>yo[EOS]<user>more[EOS]<assistant>no[EOS]"
    assert learnt(tokenizer, chat) == (whole, "yo[EOS]no[EOS]")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "csv", "jsonl.gz"])
def test_every_format_gives_the_same_documents(tmp_path, kind):
    rows, path = sums(), tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("answer,id,prompt\n" + "".join(f"{r['answer']},{r['id']},{r['prompt']}\n" for r in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif kind == "jsonl.gz":
        import gzip

        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        write_rows(path, rows)
    texts = [document.text for document in Source.parse(path, supervised=True).documents()]
    assert texts == [row_as_text(row, "") for row in rows]


@pytest.mark.parametrize("row, words", [
    ({"prompt": "a", "answr": "b"}, r"rows\.jsonl, line 2, has no field 'answer'\. Did you mean 'answr'.*\"messages\""),
    ({"text": "a"}, r"line 2, has no field 'prompt'.*A row of supervised data holds"),
    ({"prompt": "a", "answer": 3}, r"line 2: field 'answer' holds int"),
    ({"messages": "hi"}, r"line 2: field 'messages' holds str"),
    ({"messages": [{"role": "user"}]}, r"line 2, message 0, has no field 'content'"),
    ({"messages": [{"role": "user", "content": "a"}]}, r"line 2: no message has the role 'assistant'"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, r"line 2: the chat begins with a message of role 'assistant'"),
    ({"before": "a", "middle": "", "after": "b"}, r"line 2: field 'middle' is empty"),
])  # fmt: skip
def test_a_row_without_an_answer_is_an_error_with_its_line(tmp_path, row, words):
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "answer": "b"}, row])
    with pytest.raises(ValueError, match=words):
        list(Source.parse(path, supervised=True).documents())


def test_sources_without_rows_and_keys_without_effect_are_refused(tmp_path):
    with pytest.raises(ValueError, match="kind builtin holds no rows of prompts with answers"):
        Source.parse("python-docs", supervised=True)
    path = write_rows(tmp_path / "rows.jsonl", sums())
    with pytest.raises(ValueError, match="field='body' has no effect on supervised data"):
        Source.parse(path, field="body", supervised=True)
    chats = write_rows(tmp_path / "chats.jsonl", [chat(f"{i}") for i in range(9)])
    with pytest.raises(ValueError, match="need a tokenizer with a chat template"):
        prepare(Source.parse(chats, supervised=True), tmp_path / "out", vocab_size=300, workers=1)
    assert not (tmp_path / "out" / "tokenizer.json").exists()  # the same folder then takes a given tokenizer
    prepare(Source.parse(chats, supervised=True), tmp_path / "out", tokenizer=chat_tokenizer(tmp_path / "t"), workers=1)


def test_a_mask_in_a_text_is_text_and_in_a_chat_an_error(tokenizer, tmp_path):
    assert learnt(tokenizer, {"prompt": "[MASK]", "answer": "[EOS]"}) == ("[MASK][EOS][EOS]", "[EOS][EOS]")
    rows = [chat(f"[MASK] {i}") for i in range(9)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ValueError, match=r"'rows\.jsonl:\d' contains the special token '\[MASK\]'"):
        prepare(Source.parse(path, supervised=True), tmp_path / "out", tokenizer=tokenizer, workers=1)


def test_a_store_keeps_the_flags_across_shards_and_interruptions(tmp_path, tokenizer, monkeypatch):
    source = Source.parse(write_rows(tmp_path / "rows.jsonl", sums(300)), supervised=True)
    whole = prepare(source, tmp_path / "whole", tokenizer=tokenizer, workers=1, valid_fraction=0.2)
    one = TokenStore.open(whole.train, verify=True)
    encode = RowEncoder(tokenizer, tokenizer.eos_token_id)
    texts = {tuple(encode(document.text).ids): encode(document.text).learnt for document in source.documents()}
    for index in range(len(one)):
        assert texts[tuple(one.document(index).tolist())] == one.learnt(index).tolist()
    monkeypatch.setattr("unmask.data.corpus.encoding.CHUNK_DOCUMENTS", 7)

    def stop(done, total, stage):
        if stage == "train" and done > 100:
            raise KeyboardInterrupt

    again = {"tokenizer": tokenizer, "workers": 1, "valid_fraction": 0.2, "shard_tokens": 64}
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "parts", progress=stop, **again)
    parts = TokenStore.open(prepare(source, tmp_path / "parts", **again).train, verify=True)
    assert len(parts.manifest["shards"]) > 5 and len(parts) == len(one)
    for index in range(len(one)):
        assert np.array_equal(parts.learnt(index), one.learnt(index))
    assert Recipe.read(tmp_path / "parts").kind == "supervised"


def test_a_store_of_text_has_no_answers(tmp_path, documents):
    path = write_rows(tmp_path / "rows.jsonl", [{"text": document.text} for document in documents])
    store = TokenStore.open(prepare(path, tmp_path / "out", vocab_size=300, valid_fraction=0.2, workers=1).train)
    with pytest.raises(ValueError, match="--kind supervised"):
        store.learnt(0)
