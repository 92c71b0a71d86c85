"""Write `puhui_client/sync.py`: the methods of the asynchronous client, for callers without a loop.

The signatures and docstrings are copied; with --check nothing is written and a stale file fails.
"""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "puhui_client"
TARGET = CLIENT / "sync.py"

HEAD = '''"""The client for programs without an event loop: every method of `Client`, awaited.

Made from the asynchronous client by `make proto`. What streams is an iterator; the rest returns.
The connection lives in a thread of its own, so that one client serves all threads of a program.

Example:
    >>> from puhui_client import SyncClient
    >>>
    >>> def main(api_key: str) -> None:
    ...     with SyncClient("127.0.0.1:7443", api_key) as bank:
    ...         for access in bank.accesses():
    ...             print(access.purpose)
"""
'''
OWN = '''

class SyncClient:
    """A participant's connection to the platform, for any thread.

    Args:
        address: the gateway, "host:port".
        credentials: as of `Client`.
        timeout: seconds for a call that names none.
        tls: as of `Client`.
    """

    def __init__(
        self,
        address: str,
        credentials: str | Credentials,
        *,
        timeout: float = 10.0,
        tls: Tls | None = None,
    ) -> None:
        self._loop = LoopThread()
        self._client = self._loop.run(self._open(address, credentials, timeout, tls))

    @staticmethod
    async def _open(
        address: str, credentials: str | Credentials, timeout: float, tls: Tls | None
    ) -> Client:
        return Client(address, credentials, timeout=timeout, tls=tls)

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._loop.run(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
'''
IMPORTS = """
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from puhui_client.client import Client
from puhui_client.credentials import Credentials
from puhui_client.loop_thread import LoopThread
from puhui_client.transport import Tls
"""
_OF_THE_CONNECTION = {"close", "__init__", "__aenter__", "__aexit__"}


def groups(tree: ast.Module) -> list[str]:
    """Return the names of the classes whose methods the client has, in its order."""
    client = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Client")
    return [base.id for base in client.bases if isinstance(base, ast.Name)]


def parsed() -> tuple[list[ast.AsyncFunctionDef], list[str], list[str]]:
    """Return the client's public methods; what their modules import, and what for types alone."""
    of_client = ast.parse((CLIENT / "client.py").read_text("utf-8"))
    wanted, found, imports, for_types = groups(of_client), {}, [], []
    for path in sorted(CLIENT.glob("*.py")):
        if path == TARGET:
            continue
        tree = ast.parse(path.read_text("utf-8"))
        mine = [
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and (node.name in wanted or node.name == "Client")
        ]
        if not mine:
            continue
        imports += imports_in(tree.body)
        for node in tree.body:
            if isinstance(node, ast.If):
                for_types += imports_in(node.body)
        # Names that a module itself defines and its signatures use.
        for node in tree.body:
            name = getattr(node, "name", None)
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target: Any = node.targets[0] if isinstance(node, ast.Assign) else node.target
                name = getattr(target, "id", None)
            if name and not name.startswith("__") and node not in mine:
                imports.append(f"from puhui_client.{path.stem} import {name}")
        found.update({node.name: node for node in mine})
    methods = [
        item
        for name in [*wanted, "Client"]
        for item in found[name].body
        if isinstance(item, ast.AsyncFunctionDef)
        and not item.name.startswith("_")
        and item.name not in _OF_THE_CONNECTION
    ]
    return methods, sorted(set(imports)), sorted(set(for_types) - set(imports))


def imports_in(statements: list[ast.stmt]) -> list[str]:
    """Return the imports among statements."""
    return [ast.unparse(s) for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]


def streams(method: ast.AsyncFunctionDef) -> bool:
    """Tell whether a method gives an iterator."""
    return any(isinstance(node, ast.Yield) for node in ast.walk(method))


def call(method: ast.AsyncFunctionDef) -> str:
    """Return the call of the asynchronous method with the arguments of this one."""
    arguments = method.args
    given = [one.arg for one in arguments.posonlyargs + arguments.args][1:]
    if arguments.vararg:
        given.append(f"*{arguments.vararg.arg}")
    given += [f"{one.arg}={one.arg}" for one in arguments.kwonlyargs]
    return f"self._client.{method.name}({', '.join(given)})"


def written(method: ast.AsyncFunctionDef) -> str:
    """Return the method as it is without a loop."""
    returns = ast.unparse(method.returns) if method.returns else "None"
    if streams(method):
        returns = returns.replace("AsyncIterator", "Iterator").replace("AsyncGenerator", "Iterator")
        body = f"return self._loop.iterate({call(method)})"
    else:
        body = f"{'' if returns == 'None' else 'return '}self._loop.run({call(method)})"
    # In the indentation that it has where it stands.
    first = method.body[0]
    docstring = ast.get_docstring(method, clean=False) if isinstance(first, ast.Expr) else None
    quoted = f'        """{docstring}"""\n' if docstring else ""
    head = f"    def {method.name}({ast.unparse(method.args)}) -> {returns}:"
    return f"\n{head}\n{quoted}        {body}\n"


def text() -> str:
    """Return the file, in the project's format."""
    methods, imports, for_types = parsed()
    guarded = "\n    ".join(["\nif TYPE_CHECKING:", *for_types])
    body = "".join(written(method) for method in methods)
    source = HEAD + IMPORTS + "\n".join(imports) + "\n" + guarded + "\n" + OWN + body
    ruff = Path(sys.executable).with_name("ruff")
    for command in (
        ["check", "--quiet", "--select", "F401,I", "--fix", "--exit-zero"],
        ["format"],
    ):
        name = ["--stdin-filename", str(TARGET), "-"]
        source = subprocess.run(
            [ruff, *command, *name], input=source, capture_output=True, text=True, check=True
        ).stdout
    return source


def main() -> None:
    """Write the file, or say that it is stale."""
    fresh = text()
    if "--check" in sys.argv[1:]:
        stale = not TARGET.exists() or TARGET.read_text("utf-8") != fresh
        if stale:
            sys.stderr.write("puhui_client/sync.py is stale: run `make proto`\n")
        raise SystemExit(stale)
    TARGET.write_text(fresh, "utf-8")


if __name__ == "__main__":
    main()
