"""Signs a person in at the server at TENANTRY_URL with Authlib, as apps that prove with a secret
or with a private key who they are; and verifies an access token that is a JWT, as the service at
SERVICE. MAILS is the folder of mails."""

import os
import secrets
import time

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc6750 import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from authlib.oidc.core import CodeIDToken
from joserfc import jwk, jwt

from person import PASSWORD, URL, Person

REDIRECT_URI = "https://wiki.example.com/callback"
SCOPES = ["openid", "profile", "email", "projects:read", "offline_access"]


class PrivateKey(PrivateKeyJWT):
    """Signs assertions that are valid for a minute. Those of Authlib itself are valid for an hour,
    and the server accepts at most 5 minutes."""

    def sign(self, auth, token_endpoint):
        self.claims = {"exp": int(time.time()) + 60}
        return super().sign(auth, token_endpoint)


def sign_in(person, method, attributes, own_key=None):
    """Signs in with an app of these attributes that authenticates by this method."""
    app = person.register_app({
        "name": f"Wiki {method}", "redirectUris": [REDIRECT_URI],
        "tokenEndpointAuthMethod": method, "scopes": SCOPES, **attributes,
    })
    client = OAuth2Client(
        app["clientId"], own_key or app["clientSecret"], token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method, scope=" ".join(SCOPES),
        redirect_uri=REDIRECT_URI, code_challenge_method="S256",
    )
    metadata = httpx.get(f"{URL}/.well-known/openid-configuration").json()
    client.register_client_auth_method(PrivateKey(metadata["token_endpoint"], alg="ES256"))
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    url, state = client.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
    callback = person.consent(url)
    token = client.fetch_token(
        metadata["token_endpoint"], authorization_response=callback, state=state,
        code_verifier=verifier)

    keys = jwk.KeySet.import_key_set(httpx.get(metadata["jwks_uri"]).json())
    algorithm = attributes.get("idTokenSignedResponseAlg", "RS256")
    decoded = jwt.decode(token["id_token"], keys, algorithms=[algorithm])
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
    again = jwt.decode(refreshed["id_token"], keys, algorithms=[algorithm]).claims
    assert again["auth_time"] == claims["auth_time"] and "nonce" not in again, again
    revoked = client.revoke_token(metadata["revocation_endpoint"], refreshed["refresh_token"])
    assert revoked.status_code == 200, revoked.text
    assert client.get(metadata["userinfo_endpoint"]).status_code == 401


class Service(JWTBearerTokenValidator):
    """A service that knows the issuer's published keys."""

    def get_jwks(self):
        metadata = httpx.get(f"{self.issuer}/.well-known/oauth-authorization-server").json()
        return httpx.get(metadata["jwks_uri"]).json()

    def refusal(self, token, scope):
        """Returns why it does not accept a token; None if it does."""
        try:
            self.validate_token(self.authenticate_token(token), [scope], None)
        except (InvalidTokenError, InsufficientScopeError) as error:
            return type(error)
        return None


def call_service(person, uri):
    """Gets an access token for a service, which accepts it; another service does not."""
    app = person.register_app({
        "name": "Search", "redirectUris": [REDIRECT_URI], "scopes": ["projects:read"],
        "tokenEndpointAuthMethod": "client_secret_basic",
    })
    client = OAuth2Client(
        app["clientId"], app["clientSecret"], redirect_uri=REDIRECT_URI,
        scope="projects:read", code_challenge_method="S256",
    )
    verifier = secrets.token_urlsafe(48)
    url, state = client.create_authorization_url(
        f"{URL}/oauth2/authorize", code_verifier=verifier, resource=uri)
    token = client.fetch_token(
        f"{URL}/oauth2/token", authorization_response=person.consent(url), state=state,
        code_verifier=verifier)["access_token"]
    service = Service(URL, uri)
    assert service.refusal(token, "projects:read") is None
    assert service.refusal(token, "projects:write") is InsufficientScopeError
    assert Service(URL, f"{uri}/other").refusal(token, "projects:read") is InvalidTokenError
    assert client.get(f"{URL}/v1/organization/me").status_code == 401


ann = Person()
call_service(ann, os.environ["SERVICE"])
for name in ["client_secret_basic", "client_secret_post"]:
    sign_in(ann, name, {})
key = jwk.ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
own_keys = {"jwks": {"keys": [key.as_dict(private=False)]}}
sign_in(ann, "private_key_jwt", {**own_keys, "idTokenSignedResponseAlg": "ES256"}, key)
