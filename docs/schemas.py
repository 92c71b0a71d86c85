"""Writes the JSON Schemas of a model folder beside the code that reads it: `make docs`."""

import json
from pathlib import Path
from typing import Any, Final

from services.scoring.models import domain, schema
from services.scoring.training import evidence

CHECKOUT: Final = Path(__file__).resolve().parents[1]


def schemas() -> dict[Path, dict[str, Any]]:
    """Return every schema by its file."""
    scoring = CHECKOUT / "services" / "scoring"
    return {
        scoring / "models" / "manifest.schema.json": schema.schema(
            domain.Manifest, name="manifest.json", constants={"format": domain.FORMAT}
        ),
        scoring / "training" / "training.schema.json": schema.schema(
            evidence.Evidence, name="training.json", constants={"format": evidence.FORMAT}
        ),
    }


def text(made: dict[str, Any]) -> str:
    """Return a schema as its file has it."""
    return json.dumps(made, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    for path, made in schemas().items():
        path.write_text(text(made), "utf-8")
