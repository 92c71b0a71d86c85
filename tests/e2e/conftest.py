"""The town that end-to-end tests share: one platform per worker, in a process of its own."""

from collections.abc import Iterator

import pytest

from tests.e2e.town import Town, running_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A platform with participants, a firm's records and a model."""
    with running_town(tmp_path_factory.mktemp("town")) as made:
        yield made
