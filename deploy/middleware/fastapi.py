"""Checks the API keys of your customers with Tenantry, for FastAPI. Needs Python 3.9 or later. Save it as tenantry.py.

    from tenantry import Verdict, tenantry
    app = FastAPI(dependencies=[Depends(tenantry())])  # every route needs a valid key; or, with a scope:
    def docs(caller: Verdict = Depends(tenantry.require("docs:read"))): return caller.organization["id"]

- TENANTRY_URL is http://… or https://… (`http.client` has no unix sockets). TENANTRY_VERIFIER is the secret in
  VERIFIER_KEYS, without its name. The program does not start without them.
- A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached.
- `require("a:read", "b:read")` needs both scopes, `require([["a:read"], ["b:read"]])` either. Behind `tenantry()` it
  uses that verdict if it is for an organization's key that has the scopes. Otherwise it makes a check of its own.
  Each check that accepts counts as usage.
- The HTTPException is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 without a verdict within
  500 ms. Only a refused connection is tried again, once. The client's address is `request.client.host`: set uvicorn's
  --forwarded-allow-ips to your proxies, or use --no-proxy-headers, because by default it trusts 127.0.0.1.
"""
import asyncio, collections, contextlib, http.client, ipaddress, json, logging, os, re, selectors, time  # noqa: E401
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Optional
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

DEADLINE, RETRY_AFTER, KEEP_ALIVE = 0.5, 0.1, 30  # seconds
INVALID = "This credential is not valid"  # one text for all, so that nobody learns which keys exist
REJECTIONS = {
    **dict.fromkeys(["key_malformed", "key_unknown", "key_revoked", "key_expired", "key_rotated"], (401, INVALID)),
    **dict.fromkeys(["key_disabled", "owner_disabled"], (401, INVALID)),
    "scope_missing": (403, "This credential lacks a required scope"),
    "organization_suspended": (403, "This organization is suspended"),
    "origin_not_allowed": (403, "This credential may not be used from this origin"),
    "address_not_allowed": (403, "This credential may not be used from this address"),
    "address_unknown": (403, "This credential may not be used from an unknown address"),
    "rate_limited": (429, "Too many requests"),
    "quota_exceeded": (429, "The monthly quota of requests is used up"),
    "credits_exhausted": (429, "The credits are used up"),
}


class Verdict(NamedTuple):
    organization: Optional[dict]
    key: dict
    account: Optional[dict]  # None for an organization's key
    scopes: list


class _Tenantry:
    threads, idle = ThreadPoolExecutor(64, "tenantry"), collections.deque()

    def __call__(self):
        """Returns a dependency that checks the key."""
        return self._dependency([])

    def require(self, *scopes):
        """Returns a dependency that checks the key and its scopes: all of them, or any of a list of lists."""
        lists = scopes[0] if len(scopes) == 1 and isinstance(scopes[0], list) else [list(scopes)]
        is_scope = re.compile(r"\*|[a-z][a-z0-9-]*:(\*|[a-z][a-z0-9-]*)").fullmatch
        if not lists or not all(isinstance(it, list) and it and all(map(is_scope, it)) for it in lists):
            raise TypeError("must be scopes, or a list of lists of scopes")
        return self._dependency(lists)

    def _dependency(self, lists):
        self.url = urlsplit(os.environ.get("TENANTRY_URL", ""))
        web = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if self.url.scheme not in web or not self.url.hostname:
            raise ValueError("TENANTRY_URL must be http://… or https://…")
        self.connect, secret = web[self.url.scheme], os.environ.get("TENANTRY_VERIFIER")
        if not secret:
            raise ValueError("TENANTRY_VERIFIER must be the verifier's secret")
        self.headers = {"X-Tenantry-Verifier": secret, "Content-Type": "application/json"}

        async def check(request: Request) -> Verdict:
            known = request.scope.get("tenantry.verdict")
            has = lambda it: {it, "*", it.split(":")[0] + ":*"} & set(known.scopes)  # noqa: E731
            if known and (not lists or not known.account and any(all(map(has, needed)) for needed in lists)):
                return known  # Tenantry decides for accounts, which also need the role
            body = {"key": self._credential(request.headers), "scopes": lists or None, "client": self._client(request)}
            if path := getattr(request.scope.get("route"), "path", None):
                body["resource"] = f"{request.method} {path}"[:128]
            try:
                posting = asyncio.get_running_loop().run_in_executor(self.threads, self._post, json.dumps(body))
                request.scope["tenantry.verdict"] = self._read(json.loads(await asyncio.wait_for(posting, DEADLINE)))
                return request.scope["tenantry.verdict"]
            except HTTPException:
                raise
            except Exception as error:
                logging.getLogger("tenantry").error("credential check failed: %r", error)
                raise self._rejection(503, "unavailable", "The credential could not be checked", 1) from None

        return check

    def _credential(self, headers):
        keys, bearers = headers.getlist("x-api-key"), headers.getlist("authorization")
        sent = keys + [text[7:].strip() if text[:7].lower() == "bearer " else "" for text in bearers]
        if not sent:
            raise self._rejection(401, "unauthorized", "A credential is required")
        if len(keys) > 1 or len(bearers) > 1 or sent[0] != sent[-1]:
            raise self._rejection(400, "credentials_conflict", "The request has two credentials; send one")
        if not re.fullmatch("[!-~]{1,512}", sent[0]):
            raise self._rejection(401, "unauthorized", INVALID)
        return sent[0]

    def _client(self, request):  # without text that is no address, and with "null" for one that is no origin
        sent = request.headers.getlist("origin")
        client = {"origin": sent[0] if re.fullmatch("[!-~]{1,256}", " ".join(sent)) else "null"} if sent else {}
        with contextlib.suppress(ValueError, AttributeError):
            client["ip"] = str(ipaddress.ip_address(request.client.host.split("%")[0]))
        return client

    def _read(self, it):
        # Returns the verdict or raises the rejection. Fails on all that is neither.
        organization, account, has_id = it["organization"], it["account"], lambda it: isinstance(it["id"], str)
        if it["valid"] is True and it["code"] == "valid" and has_id(it["key"]) and type(it["key"]["scopes"]) is list:
            if all(found is None or has_id(found) for found in (organization, account)):
                return Verdict(organization, it["key"], account, it["key"]["scopes"])
        status, message = REJECTIONS[(code := it["code"] if it["valid"] is False else None)]
        details = {"missing_scopes": it["missing_scopes"]} if code == "scope_missing" else {}
        raise self._rejection(status, "unauthorized" if status == 401 else code, message, it["retry_after"], **details)

    def _rejection(self, status, code, message, wait=None, **details):
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": str(wait)} if wait else None
        return HTTPException(status, {"code": code, "message": message, **details}, headers)

    def _post(self, body, is_retry=False):
        try:
            connection = self._connection()
            connection.request("POST", self.url.path.rstrip("/") + "/v1/verify", body.encode(), self.headers)
            response = connection.getresponse()
            text = response.read()
        except ConnectionRefusedError:
            if is_retry:
                raise
            return time.sleep(RETRY_AFTER) or self._post(body, is_retry=True)
        self.idle.append((time.monotonic(), connection))
        if response.status == 200:
            return text
        raise ValueError(f"the status is {response.status}")

    def _connection(self):  # the one that was used last, if it is still open; otherwise a new one
        while self.idle:
            with contextlib.suppress(IndexError, ValueError), selectors.DefaultSelector() as selector:
                since, connection = self.idle.pop()
                selector.register(connection.sock, selectors.EVENT_READ)
                if time.monotonic() - since < KEEP_ALIVE and not selector.select(0):
                    return connection
                connection.close()
        return self.connect(self.url.hostname, self.url.port, timeout=DEADLINE)


tenantry = _Tenantry()
