"""Mixtures: several stores with weights, drawn from in turn.

``data.source={books: 0.7, web: 0.3}`` names sources or prepared folders. A mixture is a folder like a prepared one:

    out/mixture.json    members, weights, and digests of the members' stores
    out/sources/        stores of the members that were not prepared before
    out/tokenizer.json  the tokenizer of all members
    out/train, valid    stores of all documents of all members, which name the members' files and copy none
    out/prepared.json   written last
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

from unmask.config.mixture import Mixture
from unmask.data.preparation import Prepared
from unmask.data.store.store_mix import StoreMix, integer_weights
from unmask.data.store.token_store import MANIFEST, TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.storage import digest, read_json, write_json

FILE = "mixture.json"
PrepareMember = Callable[[str, Path, Tokenizer | None], Prepared]
"""Source, folder and tokenizer (None = that of the config) -> a prepared folder."""


def prepare_mixture(
    mixture: Mixture, out: Path, prepare_member: PrepareMember, tokenizer: Tokenizer | None = None
) -> Prepared:
    """Prepare the members of a mixture that are not prepared, and describe all of them in one folder.

    All members have one tokenizer: the given one, else that of the prepared members, else one trained on the source with the
    largest weight.

    Args:
        mixture: the members.
        out: folder of the mixture.
        prepare_member: prepares a source.
        tokenizer: tokenizer of all members; None = see above.

    Raises:
        ValueError: members with different tokenizers, a folder of another mixture, or a member that changed since.
    """
    ready = {name: Prepared.open(name) for name in mixture.weights if (Path(name) / "prepared.json").is_file()}
    first = next(iter(ready), None)
    if tokenizer is None and first is not None:
        tokenizer = Tokenizer.load(ready[first].tokenizer)
    heaviest_first = sorted(mixture.weights, key=lambda name: -mixture.weights[name])
    for name in heaviest_first:
        if name not in ready:
            ready[name] = prepare_member(name, out / "sources" / _slug(name), tokenizer)
            if tokenizer is None:
                tokenizer = Tokenizer.load(ready[name].tokenizer)
    assert tokenizer is not None
    members = [ready[name] for name in mixture.weights]
    for name, member in zip(mixture.weights, members, strict=True):
        if Tokenizer.load(member.tokenizer).fingerprint != tokenizer.fingerprint:
            other = "the given tokenizer" if first is None or first == name else f"the tokenizer of {first}"
            raise ValueError(
                f"The tokenizer of {name} ({member.vocab_size:,} ids) differs from {other}, so ids have other meanings, and the stores cannot "
                f"be mixed. Prepare {name} again with the same one: `unmask prepare SOURCE --out FOLDER --tokenizer TOKENIZER`."
            )
    facts = {
        "members": list(mixture.weights),
        "folders": [os.path.relpath(member.folder.resolve(), out.resolve()) for member in members],
        "weights": list(mixture.weights.values()),
        "stores": [[digest(store / MANIFEST) for store in (member.train, member.valid)] for member in members],
    }
    _claim(out, facts)
    if not (out / "prepared.json").exists():
        tokenizer.save(out / "tokenizer.json")
        for stage in ("train", "valid"):
            _write_union(out / stage, [member.folder / stage for member in members])
        sums = {
            key: sum(getattr(member, key) for member in members)
            for key in asdict(members[0])
            if key not in ("folder", "vocab_size")
        }
        write_json(out / "prepared.json", {**sums, "vocab_size": members[0].vocab_size})
    return Prepared.open(out)


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Record the members of a new folder, or compare them with those of an earlier mixture."""
    file = out / FILE
    if not file.exists():
        if (out / "prepared.json").exists():
            raise ValueError(
                f"{out} holds a prepared corpus that is no mixture. Choose another folder with data.store=…."
            )
        write_json(file, facts)
        return
    before = read_json(file)
    different = [key for key in facts if before.get(key) != facts[key]]
    if different == ["stores"]:
        changed = [
            n for n, old, new in zip(facts["members"], before["stores"], facts["stores"], strict=True) if old != new
        ]
        raise ValueError(
            f"The store of {', '.join(changed)} changed since the mixture {out} was made. Restore it, or delete {out} to mix it as it is now."
        )
    if different:
        raise ValueError(
            f"{out} is another mixture: {', '.join(f'{key} (was {before.get(key)}, now {facts[key]})' for key in different)}. Choose "
            f"another folder with data.store=…, or delete {out}."
        )


def _slug(name: str) -> str:
    """Return the name of a member's folder: readable, and different for different members."""
    words = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(name).name)[-40:].strip("-.") or "source"
    return f"{words}-{sha256(name.encode()).hexdigest()[:8]}"


def _write_union(folder: Path, stores: list[Path]) -> None:
    """Write the manifest of a store that consists of the files of other stores."""
    manifests = [read_json(store / MANIFEST) for store in stores]
    shards = []
    for store, manifest in zip(stores, manifests, strict=True):
        beside = Path(os.path.relpath(store.resolve(), folder.resolve()))
        for shard in manifest["shards"]:
            moved = {
                part: {**shard[part], "name": (beside / shard[part]["name"]).as_posix()}
                for part in ("tokens", "docs", "learnt")
                if part in shard
            }
            shards.append({**shard, **moved})
    totals = {
        key: sum(manifest[key] for manifest in manifests) for key in ("documents", "token_count", "bytes", "words")
    }
    origin = sha256(" ".join(manifest["source"] for manifest in manifests).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, {**manifests[0], "source": origin, **totals, "shards": shards})


def training_store(prepared: Prepared) -> TokenStore | StoreMix:
    """Open the training store of a prepared folder, or the training stores of a mixture."""
    file = prepared.folder / FILE
    if not file.exists():
        return TokenStore.open(prepared.train)
    facts = read_json(file)
    weights = integer_weights([Fraction(str(weight)) for weight in facts["weights"]])
    return StoreMix(tuple(TokenStore.open(prepared.folder / each / "train") for each in facts["folders"]), weights)


def recorded_mixture(folder: Path) -> str | None:
    """Return the mixture of a complete folder as a value of ``data.source``; None for another folder."""
    if not (folder / FILE).is_file() or not (folder / "prepared.json").is_file():
        return None
    facts = read_json(folder / FILE)
    return str(Mixture(dict(zip(facts["members"], facts["weights"], strict=True))))
