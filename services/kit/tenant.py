"""The two tenants, which share nothing: the sandbox, where everybody tries, and production.

Invariants:

- A database is of one tenant. The first service that starts on it writes down which; from then on a
  service of the other refuses to start there, before it has written anything
  (`services.kit.tenant_store`).
- An identity is asserted within a tenant, and refused in the other (`services.kit.identity`).
- Every answer of the gateway says which tenant gave it: `puhui-tenant`, in gRPC's initial metadata
  and as a header over HTTP.
"""

from typing import Final

SANDBOX: Final = "sandbox"
PRODUCTION: Final = "production"
TENANTS: Final = (SANDBOX, PRODUCTION)
TENANT_METADATA: Final = "puhui-tenant"


def check_tenant(name: str) -> None:
    """Check what a configuration says under `tenant`.

    Raises:
        ValueError: there is no such tenant.
    """
    if name not in TENANTS:
        raise ValueError(f"tenant must be {SANDBOX} or {PRODUCTION}")
