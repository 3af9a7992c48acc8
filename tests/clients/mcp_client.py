"""An MCP client of the Python SDK gets access to the server at TENANTRY_URL, beginning with the 401 of a
request without a token. CLIENT_ID is the URL of its metadata document; without one, it registers itself.
EMAIL and PASSWORD are a person's."""

import asyncio
import os
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

URL = os.environ["TENANTRY_URL"]
CLIENT_ID = os.environ.get("CLIENT_ID")
REDIRECT = "http://localhost:51234/callback"


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
    browser = httpx2.AsyncClient(base_url=URL, headers={"origin": URL}, follow_redirects=False)
    person = {"email": os.environ["EMAIL"], "password": os.environ["PASSWORD"]}
    assert (await browser.post("/api/auth/sign-in/email", json=person)).status_code == 200
    organizations = (await browser.get("/api/user/organizations")).json()
    organization = organizations["data"][0]["id"]
    answer = None

    async def consent(authorization_url):
        nonlocal answer
        page = (await browser.get(authorization_url)).headers["location"]
        assert page.startswith("/oauth2/consent?"), page
        html = (await browser.get(page)).text
        assert "<strong>unverified</strong>" in html and "sent to <strong>localhost</strong>" in html
        request = parse_qs(urlsplit(page).query)["request"][0]
        body = {"request": request, "accept": True, "organizationId": organization}
        answered = await browser.post("/oauth2/consent", json=body)
        assert answered.status_code == 200, answered.text
        answer = parse_qs(urlsplit(answered.json()["redirect"]).query)

    async def callback():
        # The client compares `iss` with the issuer that it found.
        one = {name: values[0] for name, values in answer.items()}
        return AuthorizationCodeResult(code=one["code"], state=one["state"], iss=one["iss"])

    storage = Storage()
    metadata = OAuthClientMetadata(
        client_name="MCP client",
        redirect_uris=[REDIRECT],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    provider = OAuthClientProvider(
        server_url=URL,
        client_metadata=metadata,
        storage=storage,
        redirect_handler=consent,
        callback_handler=callback,
        client_metadata_url=CLIENT_ID,
    )
    async with httpx2.AsyncClient(auth=provider) as client:
        projects = f"{URL}/api/user/organizations/{organization}/projects"
        response = await client.get(projects)
        assert response.status_code == 200, response.text
        token = storage.tokens.access_token
        assert token.startswith("tnt_oauth_"), token
        assert (await client.get(projects)).status_code == 200
        assert storage.tokens.access_token == token
    client_id = storage.client.client_id
    assert client_id == CLIENT_ID if CLIENT_ID else client_id.startswith("app_"), client_id
    await browser.aclose()


asyncio.run(main())
