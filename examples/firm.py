"""As a firm: what is held, what is asked and granted, who looked, and what they were told.

PUHUI_GATEWAY=host:port PUHUI_API_KEY=... python examples/firm.py
"""

import asyncio
import os

from puhui.datashare.v1.accesses_pb2 import ACCESS_OUTCOME_REFUSED
from puhui.datashare.v1.consents_pb2 import ConsentState
from puhui_client import Client


async def main() -> None:
    """Print all of it."""
    gateway, key = os.environ["PUHUI_GATEWAY"], os.environ["PUHUI_API_KEY"]
    async with Client(gateway, key) as firm:
        facts = await firm.facts()
        for holding in facts.holdings:
            print(f"{holding.title_en}: {holding.records} by {holding.provider_name}")
        for standing in facts.consents:
            print(f"withdrawing {standing.consent.consent_id}: {standing.effect_en}")
        async for consent in firm.list_consents():
            state = ConsentState.Name(consent.state).removeprefix("CONSENT_STATE_").lower()
            terms = consent.terms
            print(f"{state}: {terms.purpose}, {', '.join(terms.record_types)}")
        async for access in firm.accesses():
            refused = access.outcome == ACCESS_OUTCOME_REFUSED
            outcome = f"refused, {access.refusal_reason}" if refused else "released"
            print(f"{access.recipient_name}, {access.purpose}: {outcome}")
        async for decision in firm.decisions():
            print(f"score {decision.score}, {decision.grade}")


if __name__ == "__main__":
    asyncio.run(main())
