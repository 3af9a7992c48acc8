"""Answers checks as a broken or a hanging Tenantry does, by the text of the key, for ./check.

GET /connections and /checks return how many there were, and /last returns the last check.
"""
import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = {
    "object": "verification", "valid": True, "code": "valid", "credential": "api_key",
    "organization": {"id": "org_fake", "name": "fake", "plan": "trial"}, "account": None,
    "key": {"id": "key_fake", "name": None, "prefix": "tnt", "scopes": ["docs:read"], "metadata": {}, "expires_at": None},
    "missing_scopes": [], "limits": [], "quota": None, "retry_after": None, "request_id": "req_1",
}
REJECTED = {**GOOD, "valid": False, "organization": None, "key": None}
ANSWERS = {
    "good": GOOD,
    "empty_object": {},
    "null": None,
    "list": [GOOD],
    "text": "valid",
    "valid_alone": {"valid": True},
    "valid_and_a_rejection": {**GOOD, "code": "key_revoked"},
    "valid_as_text": {**GOOD, "valid": "true"},
    "valid_is_one": {**GOOD, "valid": 1},
    "code_alone": {**GOOD, "valid": None},
    "not_valid_with_code_valid": {**GOOD, "valid": False},
    "unknown_code": {**REJECTED, "code": "something_new"},
    "without_key": {**GOOD, "key": None},
    "without_key_id": {**GOOD, "key": {"scopes": ["*"]}},
    "scopes_are_text": {**GOOD, "key": {**GOOD["key"], "scopes": "*"}},
    "organization_without_id": {**GOOD, "organization": {"name": "fake"}},
    "every_expired": {**REJECTED, "code": "key_expired"},
    "every_rotated": {**REJECTED, "code": "key_rotated"},
    "every_disabled": {**REJECTED, "code": "key_disabled"},
    "every_owner": {**REJECTED, "code": "owner_disabled"},
    "unknown_address": {**GOOD, "valid": False, "code": "address_unknown"},
    "limited": {**GOOD, "valid": False, "code": "rate_limited", "retry_after": 7},
    "over_quota": {**GOOD, "valid": False, "code": "quota_exceeded"},
    "exhausted": {**GOOD, "valid": False, "code": "credits_exhausted"},
}
stats = {"connections": 0, "checks": 0, "last": None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.is_counted = False

    def log_message(self, *_):
        pass

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.answer(200, json.dumps(stats[self.path[1:]]).encode())

    def do_POST(self):
        stats["connections"] += not self.is_counted
        self.is_counted = True
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stats["checks"] += 1
        stats["last"] = {"path": self.path, "body": body, "secret": self.headers["X-Tenantry-Verifier"]}
        key, good = body["key"], json.dumps(GOOD).encode()
        if key == "hang":
            time.sleep(20)
        elif key == "drip":  # one byte every 100 ms
            self.send_response(200)
            self.send_header("Content-Length", str(len(good)))
            self.end_headers()
            for byte in good:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        elif key == "cut":
            self.answer(200, good[:-10], Content_Length=len(good))
            self.close_connection = True
        elif key == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif key == "garbage":
            self.answer(200, b"<html>valid</html>")
        elif key == "unfinished":
            self.answer(200, good[:-1])
        elif key == "followed":
            self.answer(200, good + b"}")
        elif key == "redirect":
            self.answer(307, b"", Location="/good")
        elif key.startswith("status_"):
            self.answer(int(key[7:]), good if key != "status_204" else b"")
        elif key in ANSWERS:
            self.answer(200, json.dumps(ANSWERS[key]).encode())
        else:
            self.answer(200, json.dumps({**REJECTED, "code": "key_unknown"}).encode())


ThreadingHTTPServer.request_queue_size = 128
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.daemon_threads = True
server.serve_forever()
