"""The two published encoders in plain PyTorch, with the names of their weights: references for the key maps."""

import torch
import torch.nn.functional as F
from torch import nn


class Rotation(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("inv_freq", 10000 ** (-torch.arange(0, dim, 2).float() / dim))

    def forward(self, x):
        angles = torch.arange(x.shape[-2])[:, None].float() * self.inv_freq
        half = angles.shape[-1]
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin(), rest], -1)


class RotaryLayer(nn.Module):
    def __init__(self, width, heads, hidden, rotation, gelu):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.rotary_emb = rotation
        self.attn_qkv, self.o_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        act = nn.GELU(approximate="tanh") if gelu else nn.ReLU()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), act, nn.Linear(hidden, width))

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attn_qkv(self.norm1(x)).chunk(3, -1)
        )
        out = F.scaled_dot_product_attention(self.rotary_emb(q), self.rotary_emb(k), v)
        x = x + self.o_proj(out.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class RotaryEncoder(nn.Module):
    def __init__(self, vocabulary, width, layers, heads, hidden, rotated, gelu=False, norm=True):
        super().__init__()
        rotation = Rotation(rotated)
        self.embed_tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        self.encoder = nn.ModuleList(RotaryLayer(width, heads, hidden, rotation, gelu) for _ in range(layers))
        self.output_layer = nn.Module()
        if norm:
            self.output_layer.norm_final = nn.LayerNorm(width)
        self.output_layer.linear = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.encoder:
            x = layer(x)
        return self.output_layer.linear(
            self.output_layer.norm_final(x) if hasattr(self.output_layer, "norm_final") else x
        )


class Head(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, size) for _ in range(3))


class TraceLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Module()
        self.attention.heads = nn.ModuleList(Head(width, width // heads) for _ in range(heads))
        self.attention.output = nn.Linear(width, width)
        self.ff = nn.Module()
        self.ff.linear1, self.ff.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x, real):
        h = self.norm1(x)
        heads = [F.scaled_dot_product_attention(p.q(h), p.k(h), p.v(h), real[:, None]) for p in self.attention.heads]
        x = x + self.attention.output(torch.cat(heads, -1))
        return x + self.ff.linear2(F.gelu(self.ff.linear1(self.norm2(x))))


class TraceEncoder(nn.Module):
    def __init__(self, vocabulary, width, layers, heads, hidden, length, next_id, eps):
        super().__init__()
        self.next_id = next_id
        self.encoder = nn.Module()
        self.encoder.embedding = part = nn.Module()
        part.token, part.instruction, part.argument = (nn.Embedding(n, width) for n in (vocabulary, length, length))
        part.norm = nn.LayerNorm(width, eps)
        self.encoder.layers = nn.ModuleList(TraceLayer(width, heads, hidden) for _ in range(layers))
        self.head = nn.Module()
        self.head.transform, self.head.norm = nn.Linear(width, width), nn.LayerNorm(width, eps)
        self.head.decode = nn.Linear(width, vocabulary)

    def places(self, row):
        """Instruction and argument of each token, counted one by one."""
        instruction = argument = 0
        for token in row.tolist():
            yield instruction, argument
            instruction, argument = (instruction + 1, 0) if token == self.next_id else (instruction, argument + 1)

    def forward(self, ids, real):
        places = torch.tensor([list(self.places(row)) for row in ids])
        part = self.encoder.embedding
        x = part.norm(part.token(ids) + part.instruction(places[..., 0]) + part.argument(places[..., 1]))
        for layer in self.encoder.layers:
            x = layer(x, real)
        return self.head.decode(self.head.norm(F.gelu(self.head.transform(x))))
