"""The native libraries inside installed packages: binaries that every installation has, the same with the same versions."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from unmask.data.traces.binary_files import Candidate

PACKAGES = ("numpy", "tokenizers", "safetensors", "pydantic-core", "hf-xet", "regex", "PyYAML")


def wheel_libraries() -> list[Candidate]:
    """The libraries of ``PACKAGES``, each called ``package/file``, sorted by that name.

    Raises:
        ValueError: none of them is an ELF file (another operating system, or nothing installed).
    """
    found = []
    for package in PACKAGES:
        try:
            files = metadata.files(package) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            path = Path(str(file.locate()))
            if ".so" in file.suffixes and path.is_file() and path.open("rb").read(4) == b"\x7fELF":
                found.append(Candidate(str(path), f"{package}/{file.name}", path.stat().st_size))
    if not found:
        raise ValueError(
            f"None of the installed packages ({', '.join(PACKAGES)}) holds a library in ELF format, which is that of Linux. "
            "On other systems give ELF files of your own, or take the bytecode of Python: `python` in place of `wheels`."
        )
    return sorted(found, key=lambda c: c.name)


def wheel_versions() -> str:
    """What the code of these libraries depends on: the packages' versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
