"""How institutions and people come in, against a whole platform with TLS, keys and an issuer."""

import asyncio
import json
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import OKPKey
from typer.testing import CliRunner

from puhui.common.v1.access_pb2 import ROLE_BANK, ROLE_FIRM
from puhui_client import Client, SyncClient, Tls, UnauthenticatedError
from puhui_client.oauth import ClientKey
from services.cli.login import SignedIn
from services.cli.main import app
from services.cli.settings import login_file
from services.kit.authority import Authority, Issued
from services.kit.clock import SystemClock
from tests.e2e.platforms import Process, started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with started(Process(tmp_path_factory.mktemp("platform"))) as process:
        yield process


@pytest.fixture
def endpoints(platform: Process) -> dict[str, str]:
    found: dict[str, str] = json.loads((platform.folder / "endpoints.json").read_text())
    return found


def certificate(platform: Process, name: str) -> Issued:
    keys = platform.folder / "keys"
    texts = [(keys / f"authority.{part}").read_text() for part in ("crt", "pem")]
    return Authority.load(*texts, clock=SystemClock()).issue(name, server=False)


def operator(platform: Process) -> Client:
    return Client(platform.gateway, (platform.folder / "operator.key").read_text().strip())


async def admitted(platform: Process, issued: Issued) -> tuple[str, str]:
    """Register a bank with a certificate and a key, and return its id and the private key."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = json.dumps(OKPKey.import_key(pem).as_dict(private=False))
    async with operator(platform) as client:
        bank = await client.register_participant("BANK", "a bank")
        await client.register_certificate(bank.participant_id, issued.certificate)
        await client.register_key(bank.participant_id, public)
    return bank.participant_id, pem


def tls_of(platform: Process, issued: Issued) -> Tls:
    ca = (platform.folder / "keys" / "authority.crt").read_bytes()
    return Tls(ca, issued.certificate.encode(), issued.key.encode())


async def test_a_bank_comes_in_by_its_certificate_and_a_token_bound_to_it(
    platform: Process, endpoints: dict[str, str]
) -> None:
    issued = certificate(platform, "a bank")
    participant_id, pem = await admitted(platform, issued)
    tls = tls_of(platform, issued)
    credentials = ClientKey(f"https://{endpoints['https']}", participant_id, pem, tls)
    async with Client(endpoints["institutions"], credentials, tls=tls) as bank:
        who = await bank.whoami()
    assert (who.participant_id, who.role, who.tenant) == (participant_id, ROLE_BANK, "sandbox")

    def without_loop() -> str:
        again = ClientKey(f"https://{endpoints['https']}", participant_id, pem, tls)
        with SyncClient(endpoints["institutions"], again, tls=tls) as client:
            return client.whoami().participant_id

    assert await asyncio.to_thread(without_loop) == participant_id


async def test_a_token_is_nothing_without_its_certificate(
    platform: Process, endpoints: dict[str, str]
) -> None:
    issued = certificate(platform, "another bank")
    participant_id, pem = await admitted(platform, issued)
    credentials = ClientKey(
        f"https://{endpoints['https']}", participant_id, pem, tls_of(platform, issued)
    )
    other = tls_of(platform, certificate(platform, "a thief"))
    async with Client(endpoints["institutions"], credentials, tls=other) as thief:
        with pytest.raises(UnauthenticatedError) as refused:
            await thief.whoami()
    assert refused.value.reason == "CERTIFICATE_MISMATCH"
    async with Client(endpoints["gateway"], credentials) as plain:
        with pytest.raises(UnauthenticatedError):
            await plain.whoami()


class Form(HTMLParser):
    """The fields of a form that come with it."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("type") == "hidden":
            self.fields[str(given["name"])] = given.get("value") or ""


def browse(address: str, name: str, password: str) -> httpx2.Response:
    """Do what a person does with the page."""
    with httpx2.Client(follow_redirects=True) as browser:
        form = Form()
        form.feed(browser.get(address).text)
        fields = {**form.fields, "name": name, "password": password}
        return browser.post(address.partition("?")[0], data=fields)


async def test_a_person_signs_in_by_the_browser_and_acts_for_a_firm(
    platform: Process,
    endpoints: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    issuer = f"http://{endpoints['http']}/sign-in"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    runner = CliRunner()
    made = runner.invoke(app, ["sandbox", "person", "wang", "--data-dir", str(platform.folder)])
    assert made.exit_code == 0, made.output
    password = (platform.folder / "wang.password").read_text()
    pages: list[httpx2.Response] = []

    def opened(address: str) -> bool:
        browsing = threading.Thread(target=lambda: pages.append(browse(address, "wang", password)))
        browsing.start()
        return True

    monkeypatch.setattr("services.cli.login.webbrowser.open", opened)
    done = await asyncio.to_thread(runner.invoke, app, ["login", "--issuer", issuer])
    assert done.exit_code == 0, done.output
    file = login_file({"XDG_CONFIG_HOME": str(tmp_path)})
    assert file.stat().st_mode & 0o777 == 0o600
    async with operator(platform) as client:
        firm = await client.register_participant("FIRM", "a firm")
        await client.register_person(firm.participant_id, issuer, "wang")
    ca = Tls((platform.folder / "keys" / "authority.crt").read_bytes())
    for address, tls in ((endpoints["gateway"], None), (endpoints["people"], ca)):
        async with Client(address, SignedIn(file), tls=tls) as person:
            who = await person.whoami()
        assert (who.participant_id, who.role) == (firm.participant_id, ROLE_FIRM)
        assert who.person_id
        assert "wang" not in who.person_id
    assert "Signed in" in pages[0].text
    assert runner.invoke(app, ["logout"]).exit_code == 0
    assert not file.exists()
