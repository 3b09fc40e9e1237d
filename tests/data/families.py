"""Small tokenizers of the public families, each trained on the same few sentences."""

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from unmask.data.tokenizing.tokenizers import Tokenizer

SENTENCES = [
    f"{subject} {verb} {thing}."
    for subject in ("the cat", "a dog", "my aunt")
    for verb in ("sees", "likes")
    for thing in ("a house", "old trees", "an unbelievable story, and a b")
] * 3
FAMILIES = ("ours", "words", "always", "first", "never", "bytes", "bytes_prefix", "prepend", "unigram", "fallback")


def special(token: str, **options: bool) -> AddedToken:
    return AddedToken(token, special=True, normalized=False, **options)


def family(name: str) -> Tokenizer:
    """Return a tokenizer of the family, with conventional names of special tokens."""
    if name == "ours":
        return Tokenizer.train(SENTENCES, 330)
    roles = {"pad": "<pad>", "mask": "<mask>", "eos": "</s>", "unk": "<unk>"}
    lstrip = name != "prepend"
    tokens = [special("<pad>"), special("</s>"), special("<unk>"), special("<mask>", lstrip=lstrip)]
    options = {"special_tokens": tokens, "show_progress": False, "vocab_size": 160}
    if name == "words":
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.normalizer, backend.pre_tokenizer, backend.decoder = (
            normalizers.BertNormalizer(lowercase=True),
            pre_tokenizers.BertPreTokenizer(),
            decoders.WordPiece(prefix="##"),
        )
        options["special_tokens"][3] = special("<mask>")
        trainer = trainers.WordPieceTrainer(**options)
    elif name in ("always", "first", "never", "unigram", "fallback"):
        scheme = name if name in ("always", "first", "never") else "always"
        backend = tokenizers.Tokenizer(
            models.Unigram() if name == "unigram" else models.BPE(unk_token="<unk>", byte_fallback=name == "fallback")
        )
        backend.pre_tokenizer, backend.decoder = (
            pre_tokenizers.Metaspace(prepend_scheme=scheme),
            decoders.Metaspace(prepend_scheme=scheme),
        )
        trainer = (
            trainers.UnigramTrainer(unk_token="<unk>", **options)
            if name == "unigram"
            else trainers.BpeTrainer(**options)
        )
        if name == "fallback":
            options["special_tokens"] += [
                AddedToken(f"<0x{byte:02X}>", special=False, normalized=False) for byte in range(256)
            ]
            options["vocab_size"] += 256
            trainer = trainers.BpeTrainer(**options)
            backend.decoder = decoders.Sequence(
                [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            )
    elif name in ("bytes", "bytes_prefix"):
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer, backend.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=name == "bytes_prefix"),
            decoders.ByteLevel(),
        )
        trainer = trainers.BpeTrainer(
            **{**options, "vocab_size": 330}, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
    else:
        backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        trainer = trainers.BpeTrainer(**options)
    backend.train_from_iterator(SENTENCES, trainer)
    return Tokenizer(backend, roles)
