"""How commands are made: an async function over a `Session` becomes a command with common options.

The common options (connection, `--json`) may stand before or after the command's name. A command
exits with 0 when it was done, 1 when the platform refused or did not answer, 2 when it was called
wrongly. With the flag `--json`, stdout has exactly one JSON document however it exits; `error` is
what went wrong.
"""

import asyncio
import contextlib
import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperGroup

from services.cli.output import Output, print_failure
from services.cli.settings import Options, SettingsError, resolve

if TYPE_CHECKING:
    from puhui_client import Client
    from puhui_client.credentials import Credentials

P = ParamSpec("P")

REFUSED = 1
WRONG_USE = "WRONG_USE"
"""Reason, with `--json`, of what exits with 2."""

_PANEL = "Connection"
Gateway = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        metavar="HOST:PORT",
        help="The gateway. Else: PUHUI_GATEWAY, the profile, .puhui/endpoints.json.",
        rich_help_panel=_PANEL,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="File with the API key. Else: PUHUI_API_KEY, the profile.",
        rich_help_panel=_PANEL,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of `puhui serve all`: its gateway and, where PUHUI_API_KEY is not set, its "
        "operator's key.",
        rich_help_panel=_PANEL,
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="TOML with gateway, key_file, ca_file, timeout; of an institution issuer, client_id, "
        "client_key_file, certificate_file, certificate_key_file. Else: PUHUI_PROFILE, "
        "~/.config/puhui/profile.toml.",
        rich_help_panel=_PANEL,
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="PEM certificates that sign the gateway's; TLS is used then.",
        rich_help_panel=_PANEL,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="For a call; 30 by default.", rich_help_panel=_PANEL
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Officer = Annotated[
    str,
    typer.Option("--officer", envvar="PUHUI_OFFICER", help="Who asks, as you know them; needed."),
]
FileReference = Annotated[
    str,
    typer.Option(
        "--file-ref", help="Your file that it is for, e.g. the application's number; needed."
    ),
]

_CONNECTION: dict[str, Any] = {
    "gateway": Gateway,
    "key_file": KeyFile,
    "data_dir": DataDir,
    "profile": Profile,
    "ca_file": CaFile,
    "timeout": Timeout,
}


@dataclass(frozen=True)
class Common:
    """What was said before the command's name."""

    options: Options = field(default_factory=Options)
    as_json: bool = False


class Session:
    """What a command works with.

    Args:
        options: of the connection.
        out: where results go.
    """

    def __init__(self, options: Options, out: Output) -> None:
        self._options = options
        self.out = out

    def client(self) -> "Client":
        """Return a connection to the gateway; use it as a context."""
        from puhui_client import Client, Tls

        settings = resolve(self._options, os.environ)
        own = settings.client
        if own is None:
            tls = None if settings.ca is None else Tls(ca=settings.ca)
            given: str | Credentials = settings.api_key
            if settings.login is not None:
                from services.cli.login import SignedIn

                given = SignedIn(settings.login)
            return Client(settings.gateway, given, timeout=settings.timeout, tls=tls)
        from puhui_client.oauth import ClientKey, ClientKeyError

        tls = Tls(settings.ca, own.certificate.encode(), own.certificate_key.encode())
        try:
            credentials = ClientKey(own.issuer, own.client_id, own.key, tls)
        except ClientKeyError as error:
            raise SettingsError(f"the profile's client: {error}") from None
        return Client(settings.gateway, credentials, timeout=settings.timeout, tls=tls)


def remote(
    app: typer.Typer, *, example: str, name: str | None = None
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[None]]], Callable[..., None]]:
    """Make a command that talks to the platform.

    Args:
        app: the group that it belongs to.
        example: how it is called.
        name: of the command, where the function's does not do.
    """

    def decorate(
        function: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[..., None]:
        @functools.wraps(function)
        def command(context: typer.Context, **arguments: Any) -> None:
            common: Common = context.find_root().obj
            chosen = {key: arguments.pop(key) for key in _CONNECTION}
            given = {key: value for key, value in chosen.items() if value is not None}
            options = replace(common.options, **given)
            out = Output(as_json=arguments.pop("as_json") or common.as_json)
            _run(function, Session(options, out), arguments)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        extra = [_option(key, kind, None) for key, kind in _CONNECTION.items()]
        _sign(command, [*own, _option("as_json", Json, False), *extra])
        return app.command(name, help=inspect.getdoc(function), epilog=_epilog(example))(command)

    return decorate


def local(
    app: typer.Typer, *, example: str, name: str | None = None, with_json: bool = True
) -> Callable[[Callable[Concatenate[Output, P], None]], Callable[..., None]]:
    """Make a command that works on this machine alone.

    Args:
        app: the group that it belongs to.
        example: how it is called.
        name: of the command, where the function's does not do.
        with_json: it takes the flag `--json`.
    """

    def decorate(function: Callable[Concatenate[Output, P], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(context: typer.Context, **arguments: Any) -> None:
            common: Common = context.find_root().obj
            as_json = arguments.pop("as_json", False) or common.as_json
            function(Output(as_json=as_json), **arguments)  # type: ignore[call-arg]  # the command takes what its signature names

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        _sign(command, [*own, _option("as_json", Json, False)] if with_json else own)
        return app.command(name, help=inspect.getdoc(function), epilog=_epilog(example))(command)

    return decorate


class Entry(TyperGroup):
    """The group of all commands; with `--json` it tells wrong use as JSON, too."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Parse the common options."""
        asked = "--json" in args
        with _wrong_use_told(as_json=asked):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[WRONG_USE] = asked
        return context

    def invoke(self, ctx: Any) -> Any:
        """Run what was called."""
        with _wrong_use_told(as_json=ctx.meta[WRONG_USE]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _wrong_use_told(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except typer.TyperException as error:
        # Of a command whose own `--json` names a file, stdout is not a document.
        context = getattr(error, "ctx", None)
        options = context.command.params if context is not None else ()
        named = any("--json" in p.opts and not p.is_flag for p in options)
        if not as_json or named:
            raise
        print_failure(WRONG_USE, error.format_message())
        raise typer.Exit(error.exit_code) from None


class _WrongUse(typer.BadParameter):
    """Shown as it is: the message names what is wrong itself."""

    def format_message(self) -> str:
        return self.message


def require_officer(officer: str, file_reference: str, where: str = "") -> None:
    """Refuse a command that fetches or scores without saying who asks and for which file.

    Raises:
        typer.BadParameter: one of the two is missing.
    """
    remedies = {"--officer or PUHUI_OFFICER": officer, "--file-ref": file_reference}
    missing = [remedy for remedy, value in remedies.items() if not value.strip()]
    if missing:
        raise usage(f"{where}the firm is told who asks and for what: give {' and '.join(missing)}")


def usage(message: str) -> typer.BadParameter:
    """Return the error for a command that was called wrongly; exit code 2."""
    return _WrongUse(message)


def _run(
    function: Callable[..., Awaitable[None]], session: Session, arguments: dict[str, Any]
) -> None:
    from puhui_client import PuhuiError

    async def run() -> None:
        await function(session, **arguments)

    try:
        asyncio.run(run())
    except PuhuiError as error:
        session.out.refused(error)
        raise typer.Exit(REFUSED) from None
    except SettingsError as error:
        raise usage(str(error)) from None
    except OSError as error:
        if error.filename is None:
            raise
        raise usage(f"{error.filename}: {error.strerror}: name another file") from None


def _option(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _sign(command: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Give a command the signature that typer reads its options from."""
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature([context, *named])  # type: ignore[attr-defined]  # typer reads the signature from there
    command.__annotations__ = {p.name: p.annotation for p in (context, *named)}


def _epilog(example: str) -> str:
    return f"Example: [bold]{example}[/]"
