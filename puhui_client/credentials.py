"""What calls prove who makes them with: tokens got for them, or an API key of the sandbox."""

from typing import Protocol


class Credentials(Protocol):
    """Gives each call its `authorization`."""

    async def authorization(self) -> str:
        """Return the value of the header, such as "Bearer ...".

        Raises:
            UnauthenticatedError: whoever gives tokens gives none.
            UnavailableError: it does not answer.
        """
        ...

    def rejected(self, authorization: str) -> bool:
        """Take note that the platform did not accept it, and tell whether another can be had."""
        ...


class ApiKey:
    """A key that the sandbox gave out; production takes none.

    Args:
        key: "<key_id>.<secret>".
    """

    def __init__(self, key: str) -> None:
        self._authorization = f"Bearer {key}"

    async def authorization(self) -> str:
        """Return the header's value."""
        return self._authorization

    def rejected(self, authorization: str) -> bool:
        """There is no other."""
        return False
