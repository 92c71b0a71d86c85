"""As a bank: score a firm under its consent with the Python client.

    PUHUI_GATEWAY=host:port PUHUI_API_KEY=... python examples/bank.py SUBJECT CONSENT [AS_OF]

AS_OF is a time such as 2024-12-31T23:59:59+08:00; else the data of now are used.
"""

import asyncio
import os
import sys
from datetime import datetime

from puhui_client import Client, ConsentError


async def main(subject_id: str, consent_id: str, as_of: datetime | None = None) -> None:
    """Print the score with its reasons, or why there is none."""
    gateway, key = os.environ["PUHUI_GATEWAY"], os.environ["PUHUI_API_KEY"]
    async with Client(gateway, key) as bank:
        try:
            decision = await bank.score(subject_id, consent_id, as_of=as_of)
        except ConsentError as refused:
            sys.exit(f"{refused.reason}: {refused.message}")
    print(f"{decision.score} {decision.grade} {decision.pd:.2%}, model {decision.model.version}")
    for reason in decision.reasons[:3]:
        print(f"{reason.points:+.1f} {reason.text_zh} {reason.text_en}")


if __name__ == "__main__":
    subject, consent, *when = sys.argv[1:]
    asyncio.run(main(subject, consent, datetime.fromisoformat(when[0]) if when else None))
