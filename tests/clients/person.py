"""A person with an account at the server at TENANTRY_URL. They sign in and consent by posting what
the pages' scripts post. MAILS is the folder of mails."""

import os
import re
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

URL = os.environ["TENANTRY_URL"]
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


class Person:
    """A browser in which a person with a verified address is signed in."""

    def __init__(self):
        self.browser = httpx.Client(base_url=URL)
        self.post_json("/api/auth/sign-up/email", {**PASSWORD, "name": "Ann Example"})
        self.post_json("/api/auth/verify-email", {"token": mailed_token()})
        self.post_json("/api/auth/sign-in/email", PASSWORD)
        self.organization = self.browser.get("/api/user/organizations").json()["data"][0]["id"]

    def post_json(self, path, body, status=200):
        """Posts JSON as the pages' scripts do, and returns the body of the response."""
        response = self.browser.post(path, json=body)
        assert response.status_code == status, response.text
        return response.json()

    def register_app(self, attributes):
        """Registers an app of the person's organization."""
        path = f"/api/user/organizations/{self.organization}/apps"
        return self.post_json(path, attributes, 201)["data"]

    def consent(self, url):
        """Grants what an authorization request asks for; returns where the browser is sent."""
        begun = self.browser.get(url)
        assert begun.status_code == 303, begun.text
        location = begun.headers["location"]
        if not location.startswith("/oauth2/consent"):
            return location
        request = parse_qs(urlsplit(location).query)["request"][0]
        answer = {"request": request, "accept": True, "organizationId": self.organization}
        return self.post_json("/oauth2/consent", answer)["redirect"]
