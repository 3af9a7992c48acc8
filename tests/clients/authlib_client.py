"""Signs a person in at the server at TENANTRY_URL with Authlib, as a client with a secret."""

import os
import re
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwk, jwt

URL = os.environ["TENANTRY_URL"]
REDIRECT_URI = "https://wiki.example.com/callback"
PASSWORD = {"email": "ann@example.com", "password": "a-long-secure-passphrase"}


def mailed_token():
    """Returns the token of the mail that verifies the address."""
    for _ in range(300):
        for path in Path(os.environ["MAILS"]).glob("*"):
            text = re.sub(r"=\r?\n", "", path.read_text())
            if found := re.search(r"verify-email\?token=(?:3D)?([\w-]+)", text):
                return found[1]
        time.sleep(0.1)
    raise AssertionError("no mail came")


def post(browser, path, body, status=200):
    """Posts JSON as the pages' scripts do, and returns the body of the response."""
    response = browser.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def sign_up(browser):
    """Creates an account with a verified address; returns the id of its organization."""
    post(browser, "/api/auth/sign-up/email", {**PASSWORD, "name": "Ann Example"})
    post(browser, "/api/auth/verify-email", {"token": mailed_token()})
    post(browser, "/api/auth/sign-in/email", PASSWORD)
    return browser.get("/api/user/organizations").json()["data"][0]["id"]


def consent(browser, url, organization):
    """Grants what an authorization request asks for; returns where the browser is sent."""
    begun = browser.get(url)
    assert begun.status_code == 303, begun.text
    location = begun.headers["location"]
    if not location.startswith("/oauth2/consent"):
        return location
    request = parse_qs(urlsplit(location).query)["request"][0]
    answer = {"request": request, "accept": True, "organizationId": organization}
    return post(browser, "/oauth2/consent", answer)["redirect"]


def sign_in(browser, organization, method):
    """Signs in with an app that authenticates by this method."""
    app = post(browser, f"/api/user/organizations/{organization}/apps", {
        "name": f"Wiki {method}", "redirectUris": [REDIRECT_URI],
        "tokenEndpointAuthMethod": method,
        "scopes": ["openid", "profile", "email", "projects:read", "offline_access"],
    }, 201)["data"]
    client = OAuth2Client(
        app["clientId"], app["clientSecret"], token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope="openid profile email projects:read offline_access", redirect_uri=REDIRECT_URI,
        code_challenge_method="S256",
    )
    metadata = httpx.get(f"{URL}/.well-known/openid-configuration").json()
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    url, state = client.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
    callback = consent(browser, url, organization)
    token = client.fetch_token(
        metadata["token_endpoint"], authorization_response=callback, state=state,
        code_verifier=verifier)

    keys = jwk.KeySet.import_key_set(httpx.get(metadata["jwks_uri"]).json())
    decoded = jwt.decode(token["id_token"], keys, algorithms=["RS256"])
    claims = CodeIDToken(
        decoded.claims, decoded.header,
        options={
            "iss": {"values": [metadata["issuer"]]}, "aud": {"values": [app["clientId"]]},
            "nonce": {"value": nonce}, "auth_time": {"essential": True},
        },
        params={"client_id": app["clientId"], "nonce": nonce,
                "access_token": token["access_token"]},
    )
    claims.validate(leeway=5)

    shown = client.get(metadata["userinfo_endpoint"]).json()
    assert shown["sub"] == claims["sub"], shown
    assert shown["email"] == PASSWORD["email"] and shown["email_verified"] is True, shown
    refreshed = client.refresh_token(metadata["token_endpoint"])
    again = jwt.decode(refreshed["id_token"], keys, algorithms=["RS256"]).claims
    assert again["auth_time"] == claims["auth_time"] and "nonce" not in again, again
    revoked = client.revoke_token(metadata["revocation_endpoint"], refreshed["refresh_token"])
    assert revoked.status_code == 200, revoked.text
    assert client.get(metadata["userinfo_endpoint"]).status_code == 401


with httpx.Client(base_url=URL) as person:
    home = sign_up(person)
    for name in ["client_secret_basic", "client_secret_post"]:
        sign_in(person, home, name)
