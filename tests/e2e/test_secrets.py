"""A platform whose keys, certificates and database come from a key management service."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.datashare.sealing.keyring import FileKeyRing
from services.embedded import Embedded, Folder
from services.kit.authority import Authority
from services.kit.clock import FixedClock
from services.kit.config import ConfigError
from services.kit.secrets import References, VaultSecrets
from services.kit.tls import Certificates, TlsConfig
from services.sandbox.embedded import ANY_PORT
from tests.fakes.kms import TOKEN, Kms, kms


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Kms]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with kms(tmp_path) as made:
        yield made


@pytest.fixture
def references(service: Kms, tmp_path: Path) -> References:
    return References(VaultSecrets(service.address, tmp_path / "token", service.ca_file))


async def test_a_platform_starts_with_secrets_of_a_kms(service: Kms, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "platform")
    folder.prepare()
    keys = {"kek_file": "keks.toml", "signing_key": "signing.pem", "identity": "gateway.pem"}
    for name, file in keys.items():
        service.values[f"puhui/{name}"] = folder.key(file).read_text()
        folder.key(file).write_text("not here")
    service.values["puhui/database"] = folder.database("elsewhere")
    environ = ANY_PORT | {
        "PUHUI_SECRETS_ADDRESS": service.address,
        "PUHUI_SECRETS_TOKEN_FILE": str(tmp_path / "token"),
        "PUHUI_SECRETS_CA_FILE": str(service.ca_file),
        "PUHUI_DATASHARE_KEK_FILE": "kms:puhui/kek_file",
        "PUHUI_DATASHARE_SIGNING_KEY": "kms:puhui/signing_key",
        "PUHUI_DATASHARE_DATABASE_URL": "kms:puhui/database",
        "PUHUI_GATEWAY_IDENTITY_PRIVATE_KEY": "kms:puhui/identity",
    }
    platform = Embedded(folder, environ, None)
    await platform.start()
    await platform.stop()
    assert (folder.path / "elsewhere.db").exists()
    service.sealed = True
    with pytest.raises(ConfigError, match=r"identity_private_key: the KMS answers 503"):
        await Embedded(folder, environ, None).start()


def test_a_key_ring_of_a_kms_is_read_anew(service: Kms, references: References) -> None:
    def ring(current: str) -> str:
        keys = "".join(f'{n} = "{secrets.token_hex(32)}"\n' for n in ("1", "2"))
        return f'current = "{current}"\n[keys]\n{keys}'

    service.values["kek"] = ring("1")
    made = FileKeyRing("datashare.kek_file", references.path(Path("kms:kek")), secrets.token_bytes)
    assert made.current == "1"
    service.values["kek"] = ring("2")
    references.refresh()
    assert made.current == "2"


def test_a_certificate_of_a_kms_is_renewed(service: Kms, references: References) -> None:
    authority = Authority.create("own", clock=FixedClock(datetime.now(UTC)))

    def put() -> str:
        issued = authority.issue("gateway", hosts=["localhost"])
        service.values |= {"crt": issued.certificate, "key": issued.key}
        return issued.certificate

    service.values["ca"] = authority.certificate
    first = put()
    paths = (references.path(Path(f"kms:{name}")) for name in ("crt", "key", "ca"))
    certificates = Certificates("gateway.server.tls", TlsConfig(*paths))
    assert certificates.current().certificate.decode() == first
    second = put()
    references.refresh()
    assert certificates.current().certificate.decode() == second
