"""Writes errors.md from the comments of errors.proto: `make docs`, or `python docs/errors.py`."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PROTO = HERE.parent / "proto" / "puhui" / "common" / "v1" / "errors.proto"
PREFIX = "ERROR_REASON_"

HEAD = """\
# Errors

<!-- Made from proto/puhui/common/v1/errors.proto by `make docs`: change it there. -->

Every call that fails carries a canonical gRPC code, a reason of the tables below, and a message
that says the problem and the remedy. Programs decide by the reason; messages are for people, and
never repeat a value that was sent. A row of a batch is rejected with the same reasons, in the
acknowledgement of its batch, and never stops the other rows.

| through | the reason | the fields at fault |
|---|---|---|
| gRPC | `google.rpc.ErrorInfo.reason`, domain `puhui` | `google.rpc.BadRequest` |
| HTTP | `reason` of the problem document (RFC 9457) | `fields` |
| `puhui_client` | `reason` of the `PuhuiError`; a class for each code | `fields` |
| `puhui` | first word on standard error; exit code 1 | below it |
| `puhui --json` | `error.reason` on standard output; exit code 1 | `error.fields` |

The trace id of an answer leads an operator to the call in the logs and traces of all services.
"""


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    comment: list[str] = []
    body = PROTO.read_text("utf-8").partition("enum ErrorReason {")[2]
    for line in map(str.strip, body.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
        elif match := re.match(rf"{PREFIX}(\w+) = \d+;", line):
            if match[1] != "UNSPECIFIED":
                lines.append(f"| `{match[1]}` | {_text(comment)} |\n")
            comment = []
        elif comment:  # a comment of its own: what follows belongs together
            lines.append(f"\n## {_text(comment).rstrip('.')}\n\n| reason | means |\n|---|---|\n")
            comment = []
    return "".join(lines)


def _text(comment: list[str]) -> str:
    return " ".join(comment).replace("|", r"\|")


if __name__ == "__main__":
    (HERE / "errors.md").write_text(page(), encoding="utf-8")
