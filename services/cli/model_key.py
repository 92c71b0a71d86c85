"""The key that signs the models that `puhui` writes.

Named by `--sign-with` or PUHUI_MODEL_KEY; else that of the embedded platform in whose folder the
model is written; else one of the user's own, made at its first use beside the profile, or beside
the models where nothing can be written there, as in a container.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.command import usage
from services.cli.settings import config_home

if TYPE_CHECKING:
    from services.scoring.models.signing import ModelKey

VARIABLE = "PUHUI_MODEL_KEY"
NAME = "model-key.pem"
Key = Annotated[
    Path | None,
    typer.Option(
        "--sign-with",
        metavar="FILE",
        envvar=VARIABLE,
        help="Private key that signs the model, PEM, Ed25519 or P-256. Else: PUHUI_MODEL_KEY, the "
        "embedded platform's, one of your own that is made when it is first needed.",
    ),
]


@dataclass(frozen=True)
class Signer:
    """A key, and where it is.

    Args:
        key: that signs.
        path: its file.
        made: it was made just now.
    """

    key: "ModelKey"
    path: Path
    made: bool

    @property
    def words(self) -> str:
        """What the command's output says of it."""
        made = ", made now: keep it safe" if self.made else ""
        return f"{self.key.key_id} in {self.path}{made}"


def signer(named: Path | None, folder: Path, environ: Mapping[str, str]) -> Signer:
    """Return the key that signs the model to be written.

    Args:
        named: by the command line or the environment.
        folder: of the model.
        environ: environment variables.

    Raises:
        typer.Exit: there is no key, nor can one be made.
    """
    from services.scoring.models.signing import ModelKey, SignatureError, platform_key

    try:
        if named is not None:
            return Signer(ModelKey.read(named), named, made=False)
        platform = platform_key(folder.absolute().parent.parent)
        if platform.is_file():
            return Signer(ModelKey.read(platform), platform, made=False)
        try:
            return _own(config_home(environ) / "puhui" / NAME)
        except OSError:
            return _own(folder.absolute().parent / NAME)
    except SignatureError as error:
        raise usage(f"{error}, or name another by --sign-with") from None
    except OSError as error:
        raise usage(
            f"no key for models can be made ({error.strerror}): name one by --sign-with, or by "
            f"{VARIABLE}"
        ) from None


def _own(path: Path) -> Signer:
    from services.scoring.models.signing import key_at

    there = path.exists()
    return Signer(key_at(path), path, made=not there)
