"""Policy files for tests, made from the packaged one."""

from collections.abc import Mapping
from pathlib import Path

from services.gateway.policy.file import DEFAULT


def bounded(folder: Path, **participants: Mapping[str, float]) -> Path:
    """Write the packaged policy with bounds of participants, and return where."""
    text = DEFAULT.read_text(encoding="utf-8")
    for participant_id, bounds in participants.items():
        text += f"\n[limits.participants.{participant_id}]\n"
        text += "".join(f"{name} = {value}\n" for name, value in bounds.items())
    file = folder / "policy.toml"
    file.write_text(text, encoding="utf-8")
    return file
