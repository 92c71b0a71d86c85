import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import JWKRegistry
from typer.testing import CliRunner

from services.cli.main import app
from services.embedded import Folder

runner = CliRunner()


def keys(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = runner.invoke(app, ["keys", *arguments, "--dir", str(folder), "--json"])
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def private(told: dict[str, Any]) -> str:
    path = Path(told["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


@pytest.mark.parametrize(("algorithm", "named"), [("ed25519", "EdDSA"), ("p256", "ES256")])
def test_a_client_key_has_its_public_half_as_jwk(folder: Path, algorithm: str, named: str) -> None:
    told = keys(folder, "client", "acme", "--alg", algorithm)
    public = json.loads(Path(told["public_file"]).read_text())
    assert (public["alg"], public["use"], public["kid"]) == (named, "sig", told["key_id"])
    assert "d" not in public
    assert JWKRegistry.import_key(public).thumbprint() == told["key_id"]
    load_pem_private_key(private(told).encode(), None)


def test_an_rsa_key_is_one_for_pss(folder: Path) -> None:
    told = keys(folder, "client", "acme", "--alg", "rsa")
    public = json.loads(Path(told["public_file"]).read_text())
    assert (public["kty"], public["alg"]) == ("RSA", "PS256")


def test_a_certificate_is_issued_by_the_folders_authority(folder: Path) -> None:
    root = keys(folder, "authority")
    told = keys(folder, "certificate", "gateway", "--workload", "gateway", "--host", "127.0.0.1")
    read = x509.load_pem_x509_certificate(Path(told["public_file"]).read_bytes())
    read.verify_directly_issued_by(
        x509.load_pem_x509_certificate(Path(root["public_file"]).read_bytes())
    )
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://puhui/gateway"]
    assert private(told).startswith("-----BEGIN PRIVATE KEY-----")


def test_the_authority_says_that_it_is_for_the_sandbox(folder: Path) -> None:
    result = runner.invoke(app, ["keys", "authority", "--dir", str(folder)])
    assert "for the sandbox alone" in " ".join(result.output.split())


def test_no_key_is_overwritten(folder: Path) -> None:
    first = keys(folder, "client", "acme")
    content = private(first)
    told = keys(folder, "client", "acme", code=1)
    assert "puhui keys rotate acme" in told["error"]["message"]
    assert private(first) == content
    (folder / "other.key").write_text("somebody else's")
    assert "not overwritten" in keys(folder, "client", "other", code=1)["error"]["message"]
    assert (folder / "other.key").read_text() == "somebody else's"


def test_a_former_key_stays_until_told_otherwise(folder: Path) -> None:
    first = keys(folder, "signing", "tokens", "--for", "token")
    second = keys(folder, "rotate", "tokens")
    assert second["key_id"] != first["key_id"]
    assert private(first) != private(second)
    states = [(key["turn"], key["state"]) for key in keys(folder, "list")["keys"]]
    assert states == [(1, "former"), (2, "current")]
    (ended,) = keys(folder, "rotate", "tokens", "--finish")["ended"]
    assert ended["key_id"] == first["key_id"]
    assert not Path(first["file"]).exists()
    assert Path(first["public_file"]).exists()
    assert private(second)


def test_a_certificate_is_issued_by_a_sandboxs_own_authority(folder: Path, tmp_path: Path) -> None:
    sandbox = tmp_path / "sandbox"
    Folder(sandbox).prepare()
    told = keys(folder, "certificate", "bank", "--data-dir", str(sandbox))
    root = x509.load_pem_x509_certificate((sandbox / "keys" / "authority.crt").read_bytes())
    for made in (told, keys(folder, "rotate", "bank")):
        read = x509.load_pem_x509_certificate(Path(made["public_file"]).read_bytes())
        read.verify_directly_issued_by(root)


def test_a_rotated_certificate_keeps_its_names(folder: Path) -> None:
    keys(folder, "authority")
    first = keys(folder, "certificate", "bank", "--uri", "urn:puhui:bank", "--days", "10")
    second = keys(folder, "rotate", "bank")
    read = [
        x509.load_pem_x509_certificate(Path(told["public_file"]).read_bytes())
        for told in (first, second)
    ]
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        old, new = ({e.oid: e.value for e in one.extensions}[kind.oid] for one in read)
        assert old == new
    assert read[0].public_key() != read[1].public_key()


def test_a_revoked_key_is_gone_and_marked(folder: Path) -> None:
    told = keys(folder, "client", "acme")
    assert keys(folder, "revoke", "acme", "--yes")["state"] == "revoked"
    assert not Path(told["file"]).exists()
    assert "no key acme in use" in keys(folder, "rotate", "acme", code=1)["error"]["message"]


def test_it_asks_before_it_revokes(folder: Path) -> None:
    told = keys(folder, "client", "acme")
    result = runner.invoke(app, ["keys", "revoke", "acme", "--dir", str(folder)], input="n\n")
    assert result.exit_code == 1
    assert private(told)


def test_no_private_key_is_shown(folder: Path) -> None:
    told = keys(folder, "client", "acme")
    secret = private(told).splitlines()[1]
    for command in (["list"], ["rotate", "acme"], ["revoke", "acme", "--yes"]):
        result = runner.invoke(app, ["keys", *command, "--dir", str(folder)])
        assert secret not in result.output
    assert secret not in (folder / "index.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["client", "../acme"], "letters, digits"),
        (["signing", "x", "--for", "token", "--alg", "p256"], "Ed25519"),
        (["certificate", "bank"], "no key authority in use"),
        (["certificate", "bank", "--data-dir", "none"], "no sandbox has been started in"),
        (["rotate", "nobody"], "no key nobody in use"),
        (["revoke", "nobody", "--yes"], "no such key"),
    ],
)
def test_what_cannot_be_done_is_told(folder: Path, arguments: list[str], problem: str) -> None:
    result = runner.invoke(app, ["keys", *arguments, "--dir", str(folder), "--json"])
    assert result.exit_code in (1, 2)
    assert problem in json.loads(result.stdout)["error"]["message"]


def test_only_its_owner_enters_the_folder(folder: Path) -> None:
    keys(folder, "client", "acme")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
