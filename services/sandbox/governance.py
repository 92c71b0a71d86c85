"""Two operators who put a model in service, as the registry of models asks of them.

In a sandbox a model may be tried that nobody validated; its answers say what it is.
"""

from puhui_client import Client

OFFICERS = ("modeller-1", "modeller-2")


async def second_operator(operator: Client) -> str:
    """Register another operator; returns its API key."""
    member = await operator.register_participant("OPERATOR", "second operator 第二运营人员")
    return (await operator.issue_key(member.participant_id)).api_key


async def put_in_service(first: Client, second: Client, version: str) -> None:
    """Register a folder of models_dir, propose it as champion and approve that.

    Args:
        first: an operator.
        second: another one.
        version: name of the folder.
    """
    one, other = OFFICERS
    await first.register_model(version, officer=one)
    proposed = await first.propose_model(
        version, "CHAMPION", officer=one, reason="to be tried in a sandbox"
    )
    await second.approve_proposal(proposed.proposal_id, officer=other)


async def serve(gateway: str, operator_key: str, version: str) -> None:
    """Put a model in service on a platform that has one operator so far.

    Args:
        gateway: its address, "host:port".
        operator_key: API key of the operator.
        version: name of the folder in models_dir.
    """
    async with Client(gateway, operator_key, timeout=_PATIENCE_S) as first:
        key = await second_operator(first)
        async with Client(gateway, key, timeout=_PATIENCE_S) as second:
            await put_in_service(first, second, version)


_PATIENCE_S = 30.0
