"""A key that the platform signs with in tests."""

from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import FileSigner, new_key

SIGNER = FileSigner(new_key(Suite.EDDSA).encode(), Suite.EDDSA)
