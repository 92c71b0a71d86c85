"""Manifests: of each provider and type that a fetch reached for, whether all of it is here.

Invariants:

- Whom the consent does not name is not named here either, but for what is open by law.
- Of what the consent binds there is an entry for each provider that it names and whose kind
  supplies the type; a type of which no provider has an entry has one without a provider.
- COMPLETE says that nothing is withheld, disputed, narrowed or awaited; what a provider never sent
  nobody knows.
"""

from collections.abc import Collection, Mapping, Sequence

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

    def of(
        self,
        scope: Scope,
        found: Sequence[Found],
        coverage: Sequence[tuple[str, CoverageState]],
        kinds: Mapping[str, str],
    ) -> tuple[Entry, ...]:
        """Return the manifest of a release, by type and provider.

        Args:
            scope: of the fetch.
            found: the answer to each of its queries.
            coverage: of the types.
            kinds: as what each provider of the consent supplies.
        """
        states: dict[tuple[str, str], Completeness] = {}
        for query, answer in zip(scope.queries, found, strict=True):
            disputed = {
                (mark.record_type, mark.provider_id)
                for mark in answer.disputes
                if mark.state is not DisputeState.UPHELD
            }
            here = {(series.record_type, series.provider_id) for series in answer.series}
            lessened = (
                answer.withheld_of
                | disputed
                | {place for place in here if place[0] in scope.narrowed}
            )
            for name in query.record_types:
                due = self._due(name, query.provider_ids or (), kinds)
                states |= {(name, provider_id): self._missing(name) for provider_id in due}
            states |= dict.fromkeys(here, Completeness.COMPLETE)
            states |= dict.fromkeys(lessened, Completeness.PARTIAL)
            for name in answer.left_out - self._kept:
                states[name, ""] = Completeness.NOT_CONSENTED
        for name, state in coverage:
            if state is CoverageState.NOT_CONSENTED and name not in scope.narrowed:
                states[name, ""] = Completeness.NOT_CONSENTED
        named = {name for name, _ in states}
        states |= {(name, ""): Completeness.ABSENT for name in scope.record_types - named}
        return tuple(sorted(Entry(*place, state) for place, state in states.items()))

    def _due(self, name: str, provider_ids: Collection[str], kinds: Mapping[str, str]) -> list[str]:
        suppliers = self._suppliers[name]
        return [each for each in provider_ids if kinds.get(each, "") in suppliers]

    def _missing(self, name: str) -> Completeness:
        """What has not come of a type: where it is shared on consent, it is due and awaited."""
        return Completeness.PARTIAL if name in self._on_consent else Completeness.ABSENT
