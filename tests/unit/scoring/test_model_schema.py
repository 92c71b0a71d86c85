"""The schemas of a model folder's documents: fresh, and of one mind with the typed reader."""

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from services.scoring.models import document
from services.scoring.models.domain import Manifest
from services.scoring.models.folder import MANIFEST, TRAINING
from services.scoring.training.evidence import Evidence
from tests.fakes.evidence import whole
from tests.unit.scoring.conftest import Trained

KINDS = {MANIFEST: Manifest, TRAINING: Evidence}


@pytest.fixture(scope="module")
def schemas(checkout: Path) -> dict[str, Any]:
    """Schemas by the document's name, as they are committed."""
    spec = importlib.util.spec_from_file_location("schemas", checkout / "docs" / "schemas.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, made in script.schemas().items():
        assert path.read_text("utf-8") == script.text(made), "run `make docs`"
    return {made["title"]: made for made in script.schemas().values()}


@pytest.fixture(scope="module")
def documents(trained: Trained) -> dict[str, str]:
    return {
        MANIFEST: (trained.folder / MANIFEST).read_text("utf-8"),
        TRAINING: document.dump(whole(trained.manifest)),
    }


def agree(schema: Any, kind: type, stated: Any) -> bool:
    """Whether both take it; they must be of one mind."""
    by_schema = Draft202012Validator(schema).is_valid(stated)
    try:
        document.load(kind, json.dumps(stated))
    except (ValueError, TypeError, KeyError):
        by_reader = False
    else:
        by_reader = True
    assert by_schema == by_reader, stated
    return by_reader


def test_schemas_are_schemas_and_describe_every_field(schemas: dict[str, Any]) -> None:
    for made in schemas.values():
        Draft202012Validator.check_schema(made)
        for each in (made, *made["$defs"].values()):
            assert each["description"].endswith(".")
            assert all(field["description"] for field in each["properties"].values())


@pytest.mark.parametrize("name", KINDS)
def test_both_take_what_training_writes(
    schemas: dict[str, Any], documents: dict[str, str], name: str
) -> None:
    assert agree(schemas[name], KINDS[name], json.loads(documents[name]))


def places(stated: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with one of its keys or places."""
    if isinstance(stated, dict):
        return [(stated, key) for key in stated] + [p for v in stated.values() for p in places(v)]
    if isinstance(stated, list):
        return [(stated, at) for at in range(len(stated))] + [p for v in stated for p in places(v)]
    return []


def drop(holder: Any, key: Any) -> None:
    del holder[key]


def put(value: Any) -> Callable[[Any, Any], None]:
    def change(holder: Any, key: Any) -> None:
        holder[key] = value

    return change


def add(holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder["another field"] = 1


CHANGES = [drop, add, *map(put, [None, True, "text", 7, 7.5, [], {}, [None], {"a": None}])]


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_reader_and_schema_are_of_one_mind(
    schemas: dict[str, Any], documents: dict[str, str], name: str, data: st.DataObject
) -> None:
    stated = json.loads(documents[name])
    for field in ("golden", "bins", "features", "axes", "importance"):  # many of one kind
        if isinstance(stated.get(field), list):
            stated[field] = stated[field][:2]
        elif field in stated:
            stated[field] = dict(list(stated[field].items())[:2])
    holder, key = data.draw(st.sampled_from(places(stated)))
    data.draw(st.sampled_from(CHANGES))(holder, key)
    if stated.get("format") in (1, 2):  # one of the constants, which only the schema knows
        agree(schemas[name], KINDS[name], stated)


def test_an_interval_is_read_and_written(schemas: dict[str, Any], trained: Trained) -> None:
    from services.scoring.models.domain import Band, Interval

    interval = Interval("measured", (Band(1.0, (-1.0, 1.0), (0.1, 0.2), (0.3, 0.5)),), 2.0)
    manifest = dataclasses.replace(trained.manifest, interval=interval)
    text = document.dump(manifest)
    assert document.load(Manifest, text) == manifest
    assert agree(schemas[MANIFEST], Manifest, json.loads(text))
