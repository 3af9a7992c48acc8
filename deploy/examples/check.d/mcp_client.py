"""An MCP client that is given only the URL of the example server. The person has an account already."""

import asyncio
import os
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

TENANTRY_URL, MCP_URL = os.environ["TENANTRY_URL"], os.environ["MCP_URL"]
PERSON = {"email": "ann@example.com", "password": "a-long-secure-passphrase"}


class Storage:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def main():
    browser = httpx2.AsyncClient(base_url=TENANTRY_URL, headers={"origin": TENANTRY_URL})
    assert (await browser.post("/api/auth/sign-in/email", json=PERSON)).status_code == 200
    organization = (await browser.get("/api/user/organizations")).json()["data"][0]["id"]
    answer = {}

    async def consent(authorization_url):
        page = (await browser.get(authorization_url)).headers["location"]
        request = parse_qs(urlsplit(page).query)["request"][0]
        body = {"request": request, "accept": True, "organizationId": organization}
        answered = await browser.post("/oauth2/consent", json=body)
        assert answered.status_code == 200, answered.text
        query = parse_qs(urlsplit(answered.json()["redirect"]).query)
        answer.update({name: values[0] for name, values in query.items()})

    async def callback():
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

    metadata = OAuthClientMetadata(
        client_name="MCP client",
        redirect_uris=["http://localhost:51234/callback"],
        token_endpoint_auth_method="none",
    )
    storage = Storage()
    provider = OAuthClientProvider(MCP_URL, metadata, storage, consent, callback)
    async with httpx2.AsyncClient(auth=provider) as http:
        async with Client(streamable_http_client(MCP_URL, http_client=http)) as client:
            found = (await client.call_tool("who_am_i", {})).structured_content
            assert found["organization_id"] == organization, found
            assert found["sub"].startswith("acc_") and found["role"] == "owner", found
            assert "projects:read" in found["scope"].split(), found
        # The access ends with the grant, at the next request.
        for grant in (await browser.get("/api/user/authorized-apps")).json()["data"]:
            path = f"/api/user/authorized-apps/{grant['id']}"
            assert (await browser.delete(path)).status_code == 200
    # The token is for the MCP server alone.
    headers = {"authorization": f"Bearer {storage.tokens.access_token}"}
    assert (await browser.get("/me", headers=headers)).status_code == 401
    assert httpx2.post(MCP_URL, headers=headers, json={}).status_code == 401
    await browser.aclose()


asyncio.run(main())
