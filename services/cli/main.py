"""Entry of the `puhui` command: common options and the groups of commands.

Nothing heavy is imported before a command runs, so that `puhui --help` answers at once.
"""

from typing import Annotated

import typer

from services.cli import (
    accesses,
    bundle,
    catalogue,
    consent,
    credential,
    decision,
    delivery,
    dispute,
    facts,
    incident,
    keys,
    login,
    mandate,
    mappings,
    model,
    notices,
    participant,
    policy,
    product,
    push,
    quality,
    registry,
    report,
    retention,
    review,
    sandbox,
    score,
    serve,
    submit,
    supply,
    usage,
)
from services.cli.command import (
    CaFile,
    Common,
    DataDir,
    Entry,
    Gateway,
    Json,
    KeyFile,
    Profile,
    Timeout,
)
from services.cli.settings import Options

app = typer.Typer(
    name="puhui",
    cls=Entry,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
serve.register(app)
login.register(app)
push.register(app)
submit.register(app)
app.add_typer(mappings.app, name="mapping")
app.add_typer(bundle.app, name="bundle")
delivery.register(app)
app.add_typer(delivery.app, name="delivery")
app.add_typer(quality.app, name="quality")
app.add_typer(retention.app, name="retention")
app.add_typer(retention.subject, name="subject")
app.add_typer(mandate.app, name="mandate")
app.add_typer(consent.app, name="consent")
facts.register(app)
score.register(app)
app.add_typer(product.app, name="product")
accesses.register(app)
supply.register(app)
app.add_typer(review.app, name="review")
app.add_typer(decision.app, name="decision")
app.add_typer(report.app, name="report")
dispute.register(app)
app.add_typer(dispute.app, name="dispute")
notices.register(app)
app.add_typer(notices.webhook, name="webhook")
app.add_typer(notices.contact, name="contact")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(participant.app, name="participant")
app.add_typer(participant.keys, name="key")
app.add_typer(credential.app, name="credential")
app.add_typer(keys.app, name="keys")
app.add_typer(policy.app, name="policy")
app.add_typer(model.app, name="model")
registry.register(model.app)
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(usage.app, name="usage")
app.add_typer(incident.app, name="incident")
sandbox.register(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"puhui {version('puhui')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    gateway: Gateway = None,
    key_file: KeyFile = None,
    data_dir: DataDir = None,
    profile: Profile = None,
    ca_file: CaFile = None,
    timeout: Timeout = None,
    as_json: Json = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    """Puhui 普惠: consented credit data and explainable scores for small technology firms."""
    options = Options(gateway, key_file, data_dir, profile, ca_file, timeout)
    context.obj = Common(options, as_json=as_json)


def main() -> None:
    """Run the command line."""
    app(prog_name="puhui")
