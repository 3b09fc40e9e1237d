"""The exported classes under the ``Auto…`` names of transformers, so that no remote code is needed.

A folder of ``unmask export`` carries its own code, which transformers runs with ``trust_remote_code=True`` only. Where ``unmask`` is
installed, its copy of the same code can be registered instead.
"""

from __future__ import annotations

MODEL_TYPE = "unmask"


def register() -> None:
    """Register the exported classes with ``AutoConfig`` and the ``AutoModel…`` classes. Repeated calls change nothing.

    Examples:
        >>> register()
        >>> from transformers import AutoConfig, AutoModelForMaskedLM
        >>> config = AutoConfig.for_model("unmask", vocab_size=32, hidden_size=8, num_attention_heads=1, rotary_dim=8)
        >>> type(AutoModelForMaskedLM.from_config(config)).__name__
        'UnmaskForMaskedLM'
    """
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    from unmask.export.hub_code import modeling_unmask as code
    from unmask.export.hub_code.configuration_unmask import UnmaskConfig

    AutoConfig.register(MODEL_TYPE, UnmaskConfig, exist_ok=True)
    for auto, kind in (
        (AutoModel, code.UnmaskModel),
        (AutoModelForMaskedLM, code.UnmaskForMaskedLM),
        (AutoModelForSequenceClassification, code.UnmaskForSequenceClassification),
        (AutoModelForTokenClassification, code.UnmaskForTokenClassification),
    ):
        auto.register(UnmaskConfig, kind, exist_ok=True)
