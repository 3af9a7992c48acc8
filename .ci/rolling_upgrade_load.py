"""A mixed load on servers of one database, for .ci/rolling-upgrade: SECONDS ADDRESS...

Each request goes to the next server in turn. Prints the number of requests. Fails if one failed."""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from itertools import cycle

seconds, addresses = float(sys.argv[1]), sys.argv[2:]
counted, failed, lock = Counter(), Counter(), threading.Lock()


def client(number):
    """One client: what it creates on one server it uses on the next."""
    servers = cycle(addresses[number % len(addresses):] + addresses[:number % len(addresses)])

    def ask(what, expected, method, path, body=None, key=None):
        headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{next(servers)}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        except OSError as error:
            status, text = 0, str(error).encode()
        with lock:
            counted[what] += 1
            if status != expected:
                failed[f"{what} at {url.partition('/v1/')[0]}: {status} {text[:160]}"] += 1
        return json.loads(text) if status == expected and text else {}

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = ask("signup", 201, "POST", "/signup", {}).get("api_key")
        keys = "/v1/organization/api-keys"
        created = ask("mint", 201, "POST", keys, {"name": "k", "scopes": ["*"]}, key)
        ask("check", 200, "GET", "/me", key=created.get("key"))
        ask("check", 200, "GET", "/v1/organization/me", key=key)
        ask("revoke", 200, "DELETE", f"{keys}/{created.get('id')}", key=key)
        ask("check revoked", 401, "GET", "/me", key=created.get("key"))
        email, password = f"{uuid.uuid4()}@example.com", "a-long-secure-passphrase"
        person = {"email": email, "password": password, "name": "Ann"}
        ask("account", 200, "POST", "/api/auth/sign-up/email", person)
        person.pop("name")
        ask("sign-in", 200, "POST", "/api/auth/sign-in/email", person)


threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(f"{' and '.join(addresses)}: {dict(counted)}, failed: {sum(failed.values())}")
for failure, times in failed.most_common(10):
    print(f"  {times} × {failure}")
sys.exit(bool(failed))
