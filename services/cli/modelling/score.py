"""`puhui model score`: a table of any length by a model folder, a part at a time.

Invariants: the rows of the scores are those of the table, in its order; memory does not grow with
them. What was not understood is counted and told, never guessed. The file of scores appears whole
or not at all.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

import typer

from services.cli import output
from services.cli.command import local, usage
from services.cli.output import Output
from services.cli.progress import bar

if TYPE_CHECKING:
    from services.scoring.models.scorer import Scorer
    from services.scoring.training.encoding import Unread
    from services.scoring.training.files import TableFile

REASONS: Final = 4
SUFFIXES: Final = (".parquet", ".csv")


class _Sink(Protocol):
    def write(self, table: Any) -> None: ...

    def close(self) -> None: ...


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    local(
        app, example="puhui model score models/bank-1 loans.csv --out scores.parquet", name="score"
    )(score)


def score(
    out: Output,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A model folder.")
    ],
    table_file: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            exists=True,
            dir_okay=False,
            help="CSV (also .csv.gz) or Parquet with the columns that the model was trained on.",
        ),
    ],
    scores: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Scores to write: .parquet or .csv.")
    ],
    lang: Annotated[
        Literal["zh", "en"], typer.Option("--lang", help="Language of the reasons.")
    ] = "en",
) -> None:
    """Score a table with a model of a table: pd, score, grade and the four strongest reasons.

    Rows stay in the table's order, and columns that the model does not know are ignored. Where the
    model has an interval, pd_low, pd_high and refer (a person should decide) come last.
    """
    from services.scoring.training.domain import TrainingError
    from services.scoring.training.encoding import Unread, check_needed
    from services.scoring.training.files import open_file

    if scores.suffix not in SUFFIXES:
        raise usage(f"{scores} is not one of {', '.join(SUFFIXES)}: name such a file by --out")
    scorer = load(folder)
    unread = Unread()
    started = time.monotonic()
    pending = scores.with_name(f".{scores.name}.pending")
    grades: dict[str, int] = {}
    rows = 0
    try:
        table = open_file(table_file)
        check_needed(scorer.manifest.features, table.columns, scorer.version)
        scores.parent.mkdir(parents=True, exist_ok=True)
        with bar("Scoring", table.rows) as advance:
            sink: _Sink | None = None
            try:
                for part in _parts(scorer, table, lang, unread):
                    sink = sink or _sink(pending, part.schema, scores.suffix)
                    sink.write(part)
                    rows += part.num_rows
                    for count in part["grade"].value_counts().to_pylist():
                        grades[count["values"]] = grades.get(count["values"], 0) + count["counts"]
                    advance(part.num_rows)
            finally:
                if sink is not None:
                    sink.close()
        if sink is None:
            raise usage(f"{table_file} has no rows: there is nothing to score")
        pending.replace(scores)
    except TrainingError as error:
        raise usage(str(error)) from None
    finally:
        pending.unlink(missing_ok=True)
    _show(out, scorer, scores, rows, grades, unread, time.monotonic() - started)


def load(folder: Path) -> "Scorer":
    """Return the model of a table that is in a folder.

    Raises:
        typer.BadParameter: it cannot be used, or is not of a table.
    """
    from services.scoring.models.domain import InputSource, ModelFolderError
    from services.scoring.models.scorer import Scorer

    try:
        scorer = Scorer.load(folder.resolve())
    except ModelFolderError as error:
        raise usage(str(error)) from None
    if any(feature.source is not InputSource.TABLE for feature in scorer.manifest.features):
        raise usage(
            f"{folder} scores firms by the platform's records: use `puhui score`, or name a model "
            "that was trained on a table"
        )
    return scorer


def _parts(scorer: "Scorer", table: "TableFile", lang: str, unread: "Unread") -> Iterator[Any]:
    """Scores of some rows after the other, as tables of Arrow."""
    import pyarrow as pa

    from services.scoring.models.table_reasons import TableReasoner
    from services.scoring.training.encoding import encode, needed

    features = scorer.manifest.features
    reasoner = TableReasoner(scorer.manifest, zh=lang == "zh")
    for batch in table.batches(needed(features)):
        matrix = encode(features, batch, unread)
        found = scorer.score(matrix)
        columns: dict[str, Any] = {
            "pd": pa.array(found.pds, pa.float64()),
            "score": pa.array(found.scores, pa.int32()),
            "grade": pa.array(found.grades, pa.string()),
        }
        for rank, texts in enumerate(reasoner.words(found, matrix, REASONS), start=1):
            columns[f"reason_{rank}"] = pa.array(texts, pa.string())
        if found.ends is not None:
            columns["pd_low"] = pa.array(found.lows, pa.float64())
            columns["pd_high"] = pa.array(found.highs, pa.float64())
            columns["refer"] = pa.array(found.refer, pa.bool_())
        yield pa.table(columns)


def _sink(path: Path, schema: Any, suffix: str) -> _Sink:
    if suffix == ".csv":
        from pyarrow.csv import CSVWriter

        sink: _Sink = CSVWriter(path, schema)
        return sink
    from pyarrow.parquet import ParquetWriter

    writer: _Sink = ParquetWriter(path, schema)
    return writer


def _show(
    out: Output,
    scorer: "Scorer",
    scores: Path,
    rows: int,
    grades: dict[str, int],
    unread: "Unread",
    seconds: float,
) -> None:
    manifest = scorer.manifest
    cells = {name: count for name, count in unread.cells.items() if count}
    unseen = {name: count for name, count in unread.unseen.items() if count}
    pooled = {feature.name for feature in manifest.features if feature.others is not None}
    ordered = [cut.grade for cut in manifest.grades if grades.get(cut.grade)]
    out.show(
        {
            "version": manifest.version,
            "model_class": str(manifest.model_class),
            "scores": str(scores),
            "rows": rows,
            "seconds": round(seconds, 3),
            "grades": {grade: grades[grade] for grade in ordered},
            "unread": cells,
            "unseen": unseen,
        },
        output.pairs(
            f"Scores by {manifest.version}",
            [
                ("file", str(scores)),
                ("class", str(manifest.model_class).lower()),
                ("rows", f"{rows:,} in {seconds:.1f} s"),
                *((f"grade {grade}", f"{grades[grade]:,}") for grade in ordered),
                *(
                    (f"not understood in {name}", f"{count:,} cells, which count as missing")
                    for name, count in cells.items()
                ),
                *(
                    (
                        f"rare or new in {name}",
                        f"{count:,} cells, which count as "
                        + ("others" if name in pooled else "missing"),
                    )
                    for name, count in unseen.items()
                ),
            ],
        ),
    )
