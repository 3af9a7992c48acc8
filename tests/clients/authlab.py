"""Runs the checks of mcp-authlab, a scanner of MCP servers, against the MCP server of
deploy/examples, which accepts the tokens of the server at TENANTRY_URL. The scanner finds that
server by itself, registers there, signs a person in, and sends both servers what they must reject.
Each check cites what it enforces.

MCP_URL is where the MCP server is started; OAUTH_RESOURCES names it after the verifier of
TENANTRY_VERIFIER. MAILS is the folder of mails; the current folder is for files."""

import json
import os
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import httpx
from mcp_authlab import catalog, cli

from person import URL, Person

MCP_URL = os.environ["MCP_URL"]
EXAMPLE = Path(__file__).parents[2] / "deploy/examples/mcp_server.py"

# The check that cannot pass on plain http, which all others accept on loopback addresses.
EXCEPTIONS = {"TLS-01": "warn"}
# The 401 of the SDK of MCP names no scopes. Only a draft of MCP recommends it.
OF_SDK = {**EXCEPTIONS, "CHAL-03": "warn"}


class Browser(webbrowser.GenericBrowser):
    """The browser that the scanner opens: a person grants access in it."""

    def __init__(self, person):
        super().__init__("person")
        self.person = person

    def open(self, url, *_):
        httpx.get(self.person.consent(url)).raise_for_status()
        return True


def await_mcp_server(process):
    for _ in range(300):
        assert process.poll() is None, "the MCP server did not start"
        try:
            return httpx.get(MCP_URL)
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {MCP_URL}")


def scan(url, *options):
    """Returns the results of the checks of the server at this URL, by their ids."""
    assert cli.main(["scan", url, "--format", "json", "-o", "report.json", *options]) == 0
    results = json.loads(Path("report.json").read_text())["results"]
    assert {it["id"] for it in results} == set(catalog.BY_ID)
    return {it["id"]: it for it in results}


def differing(results, expected):
    """Returns what to print of the results that are not as expected; the others must pass."""
    members = ["id", "status", "message", "title", "cite", "evidence"]
    return [
        json.dumps({member: result[member] for member in members}, indent=1)
        for id, result in results.items()
        if result["status"] != expected.get(id, "pass")
    ]


os.environ["MCP_AUTHLAB_TOKENS"] = str(Path("tokens.json").absolute())
mcp_server = subprocess.Popen([sys.executable, EXAMPLE])
try:
    await_mcp_server(mcp_server)
    webbrowser.register("person", None, Browser(Person()), preferred=True)
    # It requests only the scopes that it is told. Without --thorough it skips a check (ASF-03).
    scope = ["--scope", "projects:read offline_access"]
    assert cli.main(["login", MCP_URL, "--thorough", *scope]) == 0
    # It calls only tools whose names begin with a verb of reading, or the one that it is told.
    of_mcp_server = scan(MCP_URL, "--tool", "who_am_i")
finally:
    mcp_server.terminate()

# The API is a protected resource as well, but speaks no MCP: what a client sees that has no token.
of_api = scan(f"{URL}/api/user/organizations/org_0000000000/projects", "--no-login")
needs_login = {
    it.id: "skip"
    for it in catalog.CATALOG
    if it.needs_token or it.needs_foreign_token or it.phase == catalog.LOGIN
}
failed = differing(of_api, {**needs_login, **EXCEPTIONS}) + differing(of_mcp_server, OF_SDK)
assert not failed, "\n".join(failed)
