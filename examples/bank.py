"""As a bank: score a firm under its consent with the Python client.

    export PUHUI_GATEWAY=host:port PUHUI_API_KEY=... PUHUI_OFFICER="Wang 王"
    python examples/bank.py SUBJECT CONSENT FILE_REFERENCE [AS_OF]

The firm sees who asked and for which file. AS_OF is a time such as 2024-12-31T23:59:59+08:00; else
the data of now are used.
"""

import asyncio
import os
import sys
from datetime import datetime

from puhui_client import Client, ConsentError


async def main(
    subject_id: str, consent_id: str, file_reference: str, as_of: datetime | None = None
) -> None:
    """Print the score with its reasons, or why there is none."""
    gateway, key = os.environ["PUHUI_GATEWAY"], os.environ["PUHUI_API_KEY"]
    async with Client(gateway, key) as bank:
        try:
            decision = await bank.score(
                subject_id,
                consent_id,
                officer=os.environ["PUHUI_OFFICER"],
                file_reference=file_reference,
                as_of=as_of,
            )
        except ConsentError as refused:
            sys.exit(f"{refused.reason}: {refused.message}")
    print(f"{decision.score} {decision.grade} {decision.pd:.2%}, model {decision.model.version}")
    for reason in decision.reasons[:3]:
        print(f"{reason.points:+.1f} {reason.text_zh} {reason.text_en}")


if __name__ == "__main__":
    subject, consent, file, *when = sys.argv[1:]
    asyncio.run(main(subject, consent, file, datetime.fromisoformat(when[0]) if when else None))
