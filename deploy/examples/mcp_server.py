"""An MCP server that people use through apps to which they granted access with Tenantry.

    pip install mcp
    TENANTRY_URL=https://id.example.com TENANTRY_VERIFIER=mcp:SECRET MCP_URL=https://mcp.example.com/mcp \\
        python mcp_server.py

Tenantry needs OAUTH=on, VERIFIER_KEYS=mcp:SECRET and OAUTH_RESOURCES=mcp=https://mcp.example.com/mcp.
"""

import os
from urllib.parse import urlsplit

import httpx2
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

TENANTRY_URL = os.environ["TENANTRY_URL"].rstrip("/")
VERIFIER = tuple(os.environ["TENANTRY_VERIFIER"].split(":", 1))
MCP_URL = os.environ["MCP_URL"]


class Introspection:
    """Asks Tenantry about each token (RFC 7662). An answer is never cached: a grant that was
    revoked ends with the next request."""

    def __init__(self):
        self.client = httpx2.AsyncClient(auth=VERIFIER, timeout=5)

    async def verify_token(self, token: str) -> AccessToken | None:
        response = await self.client.post(f"{TENANTRY_URL}/oauth2/introspect", data={"token": token})
        response.raise_for_status()
        found = response.json()
        # A key or a personal access token has no audience, and no person granted it to an app.
        if not found["active"] or MCP_URL not in found.get("aud", []):
            return None
        return AccessToken(
            token=token,
            client_id=found["client_id"],
            scopes=found["scope"].split(),
            expires_at=found["exp"],
            resource=MCP_URL,
            subject=found["sub"],
            claims=found,
        )


server = MCPServer(
    "Example",
    token_verifier=Introspection(),
    auth=AuthSettings(
        issuer_url=TENANTRY_URL,
        resource_server_url=MCP_URL,
        required_scopes=["projects:read"],
        validate_token_resource=True,
    ),
)


@server.tool()
def who_am_i() -> dict[str, str | None]:
    """The account and the organization for which the app acts."""
    claims = get_access_token().claims
    return {name: claims.get(name) for name in ("sub", "organization_id", "role", "scope")}


if __name__ == "__main__":
    address = urlsplit(MCP_URL)
    server.run(
        "streamable-http",
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", address.port or 9000)),
        streamable_http_path=address.path or "/",
    )
