"""Manifests: of each provider and type that a fetch reached for, whether all of it is here.

Invariants:

- Whom the consent does not name is not named here either, but for what is open by law.
- Of what the consent binds there is an entry for each provider that it names and whose kind
  supplies the type; a type of which no provider has an entry has one without a provider.
- COMPLETE says that nothing is withheld, disputed, narrowed or awaited; what a provider never sent
  nobody knows.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from services.datashare.access.domain import Completeness, CoverageState, Entry, Scope
from services.datashare.catalogue.domain import Catalogue
from services.datashare.disputes.domain import DisputeState
from services.datashare.summaries.domain import Found


class Manifests:
    """Makes manifests.

    Args:
        catalogue: who may supply which type.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._suppliers = {name: kind.provider_kinds for name, kind in catalogue.types.items()}
        self._on_consent = catalogue.on_consent
        # Nobody but its supplier learns that there is some.
        self._kept = {name for name, kind in catalogue.types.items() if kind.kept_to_provider}
        # Most firms of a bank have one of few.
        self._made = lru_cache(4096)(self._entries)

    def of(
        self,
        scope: Scope,
        found: Sequence[Found],
        coverage: tuple[tuple[str, CoverageState], ...],
        kinds: Mapping[str, str],
    ) -> tuple[Entry, ...]:
        """Return the manifest of a release, by type and provider.

        Args:
            scope: of the fetch.
            found: the answer to each of its queries.
            coverage: of the types.
            kinds: as what each provider of the consent supplies.
        """
        answers = tuple(
            _Answer(
                record_types=query.record_types,
                suppliers=frozenset((id_, kinds.get(id_, "")) for id_ in query.provider_ids or ()),
                here=tuple((series.record_type, series.provider_id) for series in answer.series),
                lessened=answer.withheld_of
                | {
                    (mark.record_type, mark.provider_id)
                    for mark in answer.disputes
                    if mark.state is not DisputeState.UPHELD
                },
                left_out=answer.left_out,
            )
            for query, answer in zip(scope.queries, found, strict=True)
        )
        return self._made(answers, coverage, scope.record_types, scope.narrowed)

    def _entries(
        self,
        answers: tuple["_Answer", ...],
        coverage: tuple[tuple[str, CoverageState], ...],
        record_types: frozenset[str],
        narrowed: frozenset[str],
    ) -> tuple[Entry, ...]:
        states: dict[tuple[str, str], Completeness] = {}
        for answer in answers:
            for name in answer.record_types:
                missing = self._missing(name)
                states |= {
                    (name, id_): missing
                    for id_, kind in answer.suppliers
                    if kind in self._suppliers[name]
                }
            states |= dict.fromkeys(answer.here, Completeness.COMPLETE)
            lessened = {place for place in answer.here if place[0] in narrowed}
            states |= dict.fromkeys(answer.lessened | lessened, Completeness.PARTIAL)
            for name in answer.left_out - self._kept:
                states[name, ""] = Completeness.NOT_CONSENTED
        for name, state in coverage:
            if state is CoverageState.NOT_CONSENTED and name not in narrowed:
                states[name, ""] = Completeness.NOT_CONSENTED
        named = {name for name, _ in states}
        states |= {(name, ""): Completeness.ABSENT for name in record_types - named}
        return tuple(Entry(*place, state) for place, state in sorted(states.items()))

    def _missing(self, name: str) -> Completeness:
        """What has not come of a type: where it is shared on consent, it is due and awaited."""
        return Completeness.PARTIAL if name in self._on_consent else Completeness.ABSENT


class _Answer(NamedTuple):
    """What a manifest needs of a query and its answer.

    Args:
        record_types: of the query.
        suppliers: whom the consent names, and as what each supplies; nobody of what is open.
        here: type and provider of what was found.
        lessened: type and provider of what is withheld or in dispute.
        left_out: types of which providers that the consent does not name have records.
    """

    record_types: tuple[str, ...]
    suppliers: frozenset[tuple[str, str]]
    here: tuple[tuple[str, str], ...]
    lessened: frozenset[tuple[str, str]]
    left_out: frozenset[str]
