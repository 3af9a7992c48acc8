"""Makes every call of cohesion-sdk's client to the server at TENANTRY_URL."""

import json
import os
import urllib.request

import httpx
from cohesion import (
    AuthenticationError,
    Client,
    CohesionError,
    CohesionMalformedDecisionError,
    ValidationError,
)
from cohesion.models import AuditEvent, AuditLogExportEvent, AuditLogResponse

URL = os.environ["TENANTRY_URL"]


def ask(method, path, key, body=None, **headers):
    """Sends a request without the client, and returns the body of the response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json", **headers}
    request = urllib.request.Request(URL + path, data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def raised(call, *kinds):
    """Returns the error that the call raises, which must be one of these kinds."""
    try:
        answer = call()
    except kinds as error:
        assert type(error) in kinds, repr(error)
        return error
    raise AssertionError(f"nothing was raised; the answer is {answer!r}")


def client_of(key):
    return Client(api_key=key, base_url=URL, receipts_base_url=URL)


organization = {
    "org_id": "acme",
    "name": "Acme Corp",
    "domain": "general",
    "tier": "starter",
    "allowed_origins": "https://acme.example.com",
}
master = os.environ["MASTER_ADMIN_KEY_ORG_CREATE"]
named = {"Idempotency-Key": "evt_1"}
created = json.loads(ask("POST", "/v1/admin/org/create", master, organization, **named))
first = created["api_key"]
client = client_of(first)

# The audit log contains the operator's changes and those of a key.
minted = json.loads(ask("POST", "/me/api-keys", first, {"name": "ci"}))
events = client.admin_audit_log()
assert all(isinstance(event, AuditEvent) for event in events), events
newest, oldest = events[0], events[-1]
assert newest.event_type == "api_key.created", events
assert oldest.event_type == "organization.provisioned", events
assert newest.api_key_prefix == created["prefix"], newest
assert (newest.method, newest.path, newest.status) == ("POST", "/me/api-keys", 201), newest
assert json.loads(newest.detail)["name"] == "ci", newest
assert oldest.api_key_prefix == "", oldest
assert json.loads(oldest.detail), oldest

# The filters, and the error for each invalid one.
assert client.admin_audit_log(event_type="api_key.created")[0] == newest
assert client.admin_audit_log(until=oldest.timestamp) == []
assert client.admin_audit_log(since=oldest.timestamp, limit=500) == events
assert len(client.admin_audit_log(limit=1)) == 1
unknown = raised(lambda: client.admin_audit_log(event_type="score.created"), ValidationError)
assert unknown.status_code == 422 and unknown.field == "event_type", vars(unknown)
assert "api_key.created" in unknown.allowed_values, unknown.allowed_values
assert "AUTH_FAIL_MASTER_KEY" in unknown.allowed_values, unknown.allowed_values
assert unknown.request_id.startswith("req_")
wrong = raised(lambda: client.admin_audit_log(since="yesterday"), ValidationError)
assert wrong.field == "since" and not wrong.allowed_values, vars(wrong)
raised(lambda: client.admin_audit_log(limit=501), ValidationError)

# The client's models of responses that it does not request.
listed = json.loads(ask("GET", "/v1/admin/audit-log", first))
assert AuditLogResponse.model_validate(listed).filters.limit == 100
assert json.loads(listed["events"][0]["detail"]) == listed["events"][0]["detail_object"]
exported = ask("GET", "/v1/admin/audit-log/export", first).splitlines()
exported = [AuditLogExportEvent.model_validate_json(line) for line in exported]
assert [event.detail for event in exported] == [event.detail for event in events]
assert all(isinstance(event.status, int) for event in exported)

# A key rotates itself, and the new one revokes itself.
rotated = client.admin_key_rotate()
assert rotated.new_api_key.startswith(rotated.new_api_key[:9] + rotated.prefix), rotated
assert raised(lambda: client.admin_audit_log(), AuthenticationError).status_code == 401
newer = client_of(rotated.new_api_key)
assert newer.admin_audit_log(event_type="api_key.rotated")[0].status == 200
revoked = newer.admin_key_revoke()
assert revoked.revoked and revoked.org_id == "acme", revoked
ended = raised(lambda: newer.admin_key_rotate(), AuthenticationError)
assert ended.request_id.startswith("req_") and ended.error_code == "UNAUTHORIZED", vars(ended)

# Calls to the product behind the keys are not served here, and the client reports that.
third = client_of(minted["api_key"])
third.admin_audit_log()
interaction = {
    "ai_recommendation_presented": True,
    "time_to_decision_ms": 1800,
    "decision": "modified",
    "modification_extent": 0.3,
    "ai_available": True,
    "scenario_type": "standard",
    "outcome_correct": None,
    "hover_events": 2,
    "scroll_depth": 0.7,
    "alternative_views_checked": 1,
}
SUBJECT = {"session_id": "sess-001", "operator_id": "analyst-42"}
EVENT = {
    **SUBJECT,
    "nonce": "n",
    "nonce_signature": "s",
    "issued_at_ms": 1,
    "expires_at_ms": 2,
    "event_seq": 1,
    "event_type": "scroll",
}
elsewhere = {
    "score": lambda: third.score(**SUBJECT, domain="financial", interaction=interaction),
    "score_commit": lambda: third.score_commit("sess-001", {"decision": "accepted"}),
    "score_batch": lambda: third.score_batch({**SUBJECT, "domain": "financial", "interactions": [interaction]}),
    "operator_profile": lambda: third.operator_profile("analyst-42"),
    "organization_dashboard": third.organization_dashboard,
    "maintenance_recommend": lambda: third.maintenance_recommend(operator_id="analyst-42"),
    "compliance_report": third.compliance_report,
    "decision_score": lambda: third.decision_score({}),
    "get_decision": lambda: third.get_decision("0d4f6a8e-7b8c-4f5d-9e6a-1b2c3d4e5f60"),
    "get_receipt": lambda: third.get_receipt("0d4f6a8e-7b8c-4f5d-9e6a-1b2c3d4e5f60"),
    "decision_queue": third.decision_queue,
    "telemetry_session_open": lambda: third.telemetry_session_open(**SUBJECT),
    "telemetry_event": lambda: third.telemetry_event(**EVENT),
    "open_telemetry_session": lambda: third.open_telemetry_session(**SUBJECT),
}
CALLS = {"admin_audit_log", "admin_key_rotate", "admin_key_revoke", *elsewhere}
HELPERS = {"close", "telemetry_ai_call_observed"}
surface = {name for name in dir(Client) if not name.startswith("_")}
assert surface == CALLS | HELPERS, surface ^ (CALLS | HELPERS)
for name, call in elsewhere.items():
    missing = raised(call, CohesionError)
    assert missing.status_code == 404, (name, vars(missing))
assert third.telemetry_ai_call_observed({"request_id": "req-0123456789abcdef"}) is False
third.close()
