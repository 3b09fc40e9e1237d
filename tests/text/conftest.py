"""The command line and the small trained model of its tests."""

from tests.cli.conftest import corpus, trained, unmask  # noqa: F401 (fixtures)
from tests.export.conftest import without_unmask  # noqa: F401
