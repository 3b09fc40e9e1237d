import random

import pytest

from unmask.data.document import Document
from unmask.data.tokenizing.tokenizers import Tokenizer

TEXT = "a statement binds names to values while loops repeat blocks of code é ☃ 12345 [MASK] [PAD] x_y = (1, 2)"


def make_documents(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [
        Document(f"d{i}", f"{i} " + " ".join(draw.choices(TEXT.split(), k=draw.randint(1, 60)))) for i in range(count)
    ]


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return make_documents(120)


@pytest.fixture(scope="session")
def tokenizer(documents) -> Tokenizer:
    return Tokenizer.train((document.text for document in documents), 400)
