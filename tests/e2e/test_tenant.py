"""The sandbox and production cannot mix: databases, keys, identities, models, and what is left."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx2
import pytest
from typer.testing import CliRunner

from puhui.gateway.v1 import gateway_pb2
from puhui_client import Client, PuhuiError
from services.cli.main import app
from services.datashare import main as datashare
from services.embedded import Embedded, Folder
from services.kit.clock import SystemClock
from services.kit.config import ConfigError
from services.kit.ids import RandomIds
from services.sandbox.embedded import ANY_PORT, embedded
from services.sandbox.embedded import Embedded as Running
from services.scoring import main as scoring

WHO_AM_I = "/puhui.gateway.v1.GatewayService/WhoAmI"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A sandbox that takes few participants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUHUI_DATASHARE_CAPS_PARTICIPANTS", "3")
        with embedded(tmp_path_factory.mktemp("small")) as running:
            yield running


async def test_every_answer_over_grpc_is_marked(small: Running) -> None:
    async with grpc.aio.insecure_channel(small.gateway) as channel:
        for method, key, code in (
            (WHO_AM_I, small.operator_key, grpc.StatusCode.OK),
            (WHO_AM_I, "key_x.wrong", grpc.StatusCode.UNAUTHENTICATED),
            ("/puhui.gateway.v1.GatewayService/Nothing", "", grpc.StatusCode.UNIMPLEMENTED),
        ):
            ask = channel.unary_unary(
                method,
                request_serializer=gateway_pb2.WhoAmIRequest.SerializeToString,
                response_deserializer=gateway_pb2.WhoAmIResponse.FromString,
            )
            call = ask(gateway_pb2.WhoAmIRequest(), metadata=(("authorization", f"Bearer {key}"),))
            assert await call.code() == code
            assert dict(await call.initial_metadata())["puhui-tenant"] == "sandbox"
            if code is grpc.StatusCode.OK:
                assert (await call).tenant == "sandbox"


@pytest.mark.parametrize("path", ["/v1/whoami", "/openapi.json", "/docs", "/nothing"])
def test_every_answer_over_http_is_marked(small: Running, path: str) -> None:
    assert httpx2.get(f"http://{small.http}{path}").headers["puhui-tenant"] == "sandbox"


async def test_keys_made_by_the_command_are_registered_and_revoked(
    small: Running, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    for made in (["authority"], ["certificate", "acme"], ["client", "acme-client"]):
        assert CliRunner().invoke(app, ["keys", *made, "--dir", str(folder)]).exit_code == 0
    async with Client(small.gateway, small.operator_key) as client:
        bank = (await client.register_participant("BANK", "Acme")).participant_id
        await client.register_certificate(bank, (folder / "acme.pem").read_text())
        await client.register_key(bank, (folder / "acme-client.jwk").read_text())
        for name in ("acme", "acme-client"):
            arguments = ["keys", "revoke", name, "--dir", str(folder), "--of", bank, "--yes"]
            told = await asyncio.to_thread(
                CliRunner().invoke, app, [*arguments, "--data-dir", str(small.data_dir)]
            )
            assert told.exit_code == 0, told.output
            assert not (folder / f"{name}.key").exists()
        found = [each async for each in client.credentials(bank)]
        assert [each.HasField("revoked_at") for each in found] == [True, True]


async def test_a_full_sandbox_says_so(small: Running) -> None:
    async with Client(small.gateway, small.operator_key) as client:
        await client.register_participant("BANK", "One")
        with pytest.raises(PuhuiError) as refused:
            for number in range(4):
                await client.register_participant("BANK", f"More {number}")
        assert refused.value.reason == "SANDBOX_FULL"


class Stopped:
    """A sandbox that was started once, and its services' configurations.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = Folder(path)

    def platform(self, **environ: str) -> Embedded:
        return Embedded(self.folder, ANY_PORT | environ, None)

    async def once(self, **environ: str) -> None:
        platform = self.platform(**environ)
        await platform.start()
        await platform.stop()


@pytest.fixture
async def stopped(tmp_path: Path) -> Stopped:
    made = Stopped(tmp_path / "sandbox")
    await made.once()
    return made


def mark(database: Path) -> str:
    connection = sqlite3.connect(database)
    try:
        return str(connection.execute("SELECT name FROM tenant").fetchone()[0])
    finally:
        connection.close()


def remark(database: Path, tenant: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute("UPDATE tenant SET name = ?", (tenant,))
    connection.commit()
    connection.close()


async def test_production_does_not_start_on_the_sandboxs_databases(stopped: Stopped) -> None:
    folder, clock = stopped.folder, SystemClock()
    assert (mark(stopped.path / "datashare.db"), mark(stopped.path / "scoring.db")) == (
        "sandbox",
        "sandbox",
    )
    data = datashare.build(
        datashare.DatashareConfig(
            identity_gateway_public_key=folder.key("gateway.pub"),
            identity_scoring_public_key=folder.key("scoring.pub"),
            counterparty_key=folder.key("counterparty.key"),
            kek_file=folder.key("keks.toml"),
            subject_token_key=folder.key("subject-token.key"),
            signing_key=folder.key("signing.pem"),
            database_url=folder.database("datashare"),
        ),
        clock,
        RandomIds(clock),
    )
    with pytest.raises(ConfigError, match=r"datashare\.database_url: .* tenant sandbox"):
        await data.start()
    score = scoring.build(
        scoring.ScoringConfig(
            identity_private_key=folder.key("scoring.pem"),
            identity_gateway_public_key=folder.key("gateway.pub"),
            report_key=folder.key("reports.pem"),
            datashare="127.0.0.1:1",
            database_url=folder.database("scoring"),
            models_dir=stopped.path / "models",
            trusted_model_keys=(str(folder.key("models.pem.pub.jwk")),),
            tenant="production",
        ),
        clock,
        RandomIds(clock),
    )
    with pytest.raises(ConfigError, match=r"scoring\.database_url: .* tenant sandbox"):
        await score.start()


@pytest.mark.parametrize("name", ["datashare", "scoring"])
async def test_the_sandbox_does_not_start_on_productions_databases(
    stopped: Stopped, name: str
) -> None:
    remark(stopped.path / f"{name}.db", "production")
    with pytest.raises(ConfigError, match=rf"{name}\.database_url: .* tenant production"):
        await stopped.once()


async def test_another_sandboxs_keys_do_not_open_its_database(
    stopped: Stopped, tmp_path: Path
) -> None:
    other = Stopped(tmp_path / "other")
    other.folder.prepare()
    with pytest.raises(ConfigError, match=r"datashare\.counterparty_key"):
        await other.once(PUHUI_DATASHARE_DATABASE_URL=stopped.folder.database("datashare"))


def reset(path: Path, *more: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["sandbox", "reset", "--data-dir", str(path), *more])
    return told.exit_code, " ".join(told.output.split())


async def test_a_reset_sandbox_is_empty_and_has_its_keys(stopped: Stopped) -> None:
    before = (stopped.path / "operator.key").read_text()
    (stopped.path / "models" / "old").mkdir()
    code, told = await asyncio.to_thread(reset, stopped.path, "--yes")
    assert code == 0, told
    assert not list(stopped.path.glob("*.db*"))
    assert not (stopped.path / "models").exists()
    await stopped.once()
    assert (stopped.path / "operator.key").read_text() == before


async def test_it_is_not_reset_without_a_yes(stopped: Stopped) -> None:
    code, _ = await asyncio.to_thread(reset, stopped.path)
    assert code == 1
    assert (stopped.path / "datashare.db").exists()


async def test_production_is_not_reset(stopped: Stopped) -> None:
    remark(stopped.path / "scoring.db", "production")
    code, told = await asyncio.to_thread(reset, stopped.path, "--yes")
    assert code == 1
    assert "of production" in told
    assert (stopped.path / "datashare.db").exists()


def test_it_is_not_reset_while_it_runs(small: Running) -> None:
    code, told = reset(small.data_dir, "--yes")
    assert code == 1
    assert "is running" in told
    assert (small.data_dir / "datashare.db").exists()


def test_what_is_no_sandbox_is_not_reset(tmp_path: Path) -> None:
    assert reset(tmp_path, "--yes")[0] == 1
