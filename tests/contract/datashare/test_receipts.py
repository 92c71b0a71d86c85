"""One suite for the store of the platform's keys."""

from datetime import timedelta

from services.datashare.receipts.domain import PlatformKey, PublicKey, Suite
from tests.contract.datashare.conftest import Stored
from tests.contract.datashare.test_stores import NOW

OLD = PlatformKey(PublicKey("b" * 43, '{"kty":"OKP"}', Suite.EDDSA), NOW)
NEW = PlatformKey(PublicKey("a" * 43, '{"kty":"EC"}', Suite.ES256), NOW + timedelta(days=1))


async def test_a_key_is_added_once_and_told_oldest_first(stored: Stored) -> None:
    async with stored.begin() as work:
        assert await work.platform_keys.add(OLD)
        assert await work.platform_keys.add(NEW)
    async with stored.begin() as work:
        again = PlatformKey(OLD.key, NEW.since)
        assert not await work.platform_keys.add(again)
    async with stored.read() as work:
        assert await work.platform_keys.all() == [OLD, NEW]
