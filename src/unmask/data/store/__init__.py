"""Token stores on disk: written once in shards, read as arrays, divided into windows."""

from unmask.data.store.token_store import TokenStore

__all__ = ["TokenStore"]
