"""A bank without labels, on the whole platform: the expert scorecard answers and claims no PD."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from puhui.scoring.v1.scoring_pb2 import MODEL_CLASS_EXPERT
from services.scoring.models.signing import key_at, platform_key
from services.scoring.training.expert import write
from tests.e2e.town import ASKED, NOW, Town, running_town

SOURCES = ("tax_filing", "social_insurance")


def an_expert(folder: Path) -> None:
    key = key_at(platform_key(folder.parent.parent))
    write(folder, SOURCES, made_at=NOW, key=key)


@pytest.fixture(scope="module")
def judging_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A platform whose model is the scorecard."""
    with running_town(tmp_path_factory.mktemp("judging"), an_expert) as made:
        yield made


async def test_a_first_score_has_reasons_points_and_advice_but_no_pd(judging_town: Town) -> None:
    town = judging_town
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        made = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        assert made.model.model_class == MODEL_CLASS_EXPERT
        assert not made.HasField("pd")
        assert not made.HasField("interval")
        assert "MODEL_EXPERT" in [notice.code for notice in made.notices]
        model = await bank.get_model(made.model.version)
        assert model.grades
        assert not any(cut.HasField("pd_from") for cut in model.grades)
        assert made.base == 600
        assert made.base + sum(group.points for group in made.points) == made.score
        assert made.reasons
        advised = [reason for reason in made.reasons if reason.improve_en]
        assert advised
        assert all(reason.points < 0 and reason.improve_zh for reason in advised)
        found = await firm.improvements(made.decision_id)
        for each in found.counterfactuals:
            assert each.score > made.score
            assert all(change.months for change in each.changes)
        replay = await bank.replay_decision(made.decision_id, use="DISPUTE")
        assert replay.same, replay.remark


async def test_what_a_firm_does_not_consent_to_is_an_open_consent(judging_town: Town) -> None:
    town = judging_town
    less = await town.consent(record_types=("vat_invoice",))
    whole = await town.consent()
    async with town.client("bank") as bank:
        withheld = await bank.score(town.subject_id, less.consent_id, **ASKED)
        shown = await bank.score(town.subject_id, whole.consent_id, **ASKED)
        assert withheld.score <= shown.score
        found = await bank.improvements(withheld.decision_id)
    assert {option.text_en for option in found.consents} == {
        "Consent to data on tax: then what they show counts; the effect depends on them",
        "Consent to data on staff and social insurance: then what they show counts; the effect "
        "depends on them",
        "Consent to data on research: then what they show counts; the effect depends on them",
    }
