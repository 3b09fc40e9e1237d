"""The native libraries of installed packages: binaries on every installation, identical for identical versions."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from unmask.data.traces.binary_files import Candidate

PACKAGES = ("numpy", "tokenizers", "safetensors", "pydantic-core", "hf-xet", "regex", "PyYAML")


def wheel_libraries() -> list[Candidate]:
    """List the libraries of ``PACKAGES``, named ``package/file`` and sorted by name.

    Raises:
        ValueError: there is no ELF file among them (another operating system, or nothing installed).
    """
    libraries = []
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            path = Path(str(file.locate()))
            if ".so" in file.suffixes and path.is_file() and path.open("rb").read(4) == b"\x7fELF":
                libraries.append(Candidate(str(path), f"{package}/{file.name}", path.stat().st_size))
    if not libraries:
        raise ValueError(
            f"None of the installed packages ({', '.join(PACKAGES)}) holds a library in ELF, the format of Linux. On "
            "other systems pass ELF files, or use the bytecode of Python: `python` in place of `wheels`."
        )
    return sorted(libraries, key=lambda c: c.name)


def wheel_versions() -> str:
    """Return the versions of the packages, which determine the code of these libraries."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
