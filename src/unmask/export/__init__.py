"""Export a trained model as a Hugging Face folder, and read such a folder back.

    hub_folder     the folder: configuration, weights, tokenizer, code, model card
    hub_weights    the key map between our networks and the exported classes, in both directions
    hub_card       the model card
    hub_code       the Python files of the folder, copied as they are
    registration   the exported classes under ``Auto…`` names, without remote code
    publishing     upload to the Hugging Face hub

Examples:
    >>> import unmask.export
    >>> unmask.export.register()
    >>> from transformers import AutoConfig
    >>> AutoConfig.for_model("unmask").model_type
    'unmask'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.export.hub_folder import Export as Export
    from unmask.export.hub_folder import export_run as export_run
    from unmask.export.hub_weights import to_network as to_network
    from unmask.export.publishing import push as push
    from unmask.export.registration import register as register

_HOMES = {
    "Export": "hub_folder",
    "export_run": "hub_folder",
    "to_network": "hub_weights",
    "push": "publishing",
    "register": "registration",
}
__all__ = ["Export", "export_run", "push", "register", "to_network"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"unmask.export has no public name {name!r}: choose {', '.join(__all__)}.")
    return getattr(import_module(f"unmask.export.{_HOMES[name]}"), name)
