"""The platform's side and a client of it."""

from collections.abc import AsyncIterator

import pytest

from puhui_client import Client
from tests.fakes.platform import FakePlatform, serving


@pytest.fixture
async def platform() -> AsyncIterator[FakePlatform]:
    async with serving() as platform:
        yield platform


@pytest.fixture
async def client(platform: FakePlatform) -> AsyncIterator[Client]:
    async with Client(platform.address, "key_1.secret", timeout=5) as client:
        yield client
