"""Packages that training needs beyond those of inference."""

from __future__ import annotations

import importlib.util


def require_training_packages(*names: str) -> None:
    """Check that the packages for training are installed.

    Args:
        names: further packages.

    Raises:
        ImportError: a package is not installed.
    """
    missing = [name for name in ("lightning", *names) if importlib.util.find_spec(name) is None]
    if missing:
        other = " Or choose train.logger=csv or none." if set(names) & set(missing) else ""
        raise ImportError(f"Training needs {' and '.join(missing)}. Type: pip install {' '.join(missing)}.{other}")
