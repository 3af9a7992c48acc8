//! Text and times that the database cannot store: rejected or not found on every route, never a
//! 5xx.

use serde_json::{Value, json};

use crate::support::client::TestResponse;
use crate::support::requests::Fixtures;
use crate::support::server::WorkDir;
use crate::support::spec::{DOCUMENT, Operation, operations};
use crate::support::stripe::checkout;
use crate::support::{TestApp, run};

/// Texts that no column accepts, or that only look like a time.
const TEXTS: [&str; 3] = ["a\u{0}b", "\u{0}", "0000-01-01T00:00:00Z"];

/// Encodes a text for a path or a query.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[track_caller]
fn assert_no_server_error(what: &str, response: &TestResponse) {
    assert!(!response.status.is_server_error(), "{what}: {} {}", response.status, response.text);
}

/// The names of an operation's parameters in its path or its query.
fn parameters<'a>(operation: &'a Operation, location: &'a str) -> impl Iterator<Item = &'a str> {
    let parameters = operation.description["parameters"].as_array().into_iter().flatten();
    let placed = parameters.filter(move |parameter| parameter["in"] == location);
    placed.filter_map(|parameter| parameter["name"].as_str())
}

/// The names of the fields of an operation's body.
fn fields(operation: &Operation) -> Vec<String> {
    let mut schema = &operation.description["requestBody"]["content"]["application/json"]["schema"];
    if let Some(any) = schema["oneOf"].as_array() {
        schema = any.last().unwrap();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()) {
        schema = &DOCUMENT["components"]["schemas"][name];
    }
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Values of a field with this text: alone, in a list, as a value and as a name.
fn shapes(text: &str) -> [Value; 4] {
    [json!(text), json!([text]), json!({ "a": text }), json!({ text: "a" })]
}

#[tokio::test]
async fn unstorable_text_in_a_path_or_a_query_is_no_server_error() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let mut tried = 0;
        for operation in operations().iter().filter(|it| !it.is_signed()) {
            // The query of a proxy's check is its configuration: an invalid one is a 503.
            if operation.requires_verifier() && !operation.has_request_body() {
                continue;
            }
            let caller = fixtures.client_for(app, operation);
            for text in TEXTS.map(encoded) {
                let in_path = parameters(operation, "path")
                    .map(|name| operation.path.replace(&format!("{{{name}}}"), &text));
                let in_query = parameters(operation, "query")
                    .map(|name| format!("{}?{name}={text}", operation.path));
                for template in in_path.chain(in_query) {
                    let request = Operation {
                        method: operation.method.clone(),
                        path: template,
                        description: operation.description.clone(),
                    };
                    let path = fixtures.path(&request);
                    let response =
                        caller.send(&request.method, &path, fixtures.body(operation)).await;
                    assert_no_server_error(&format!("{} {path}", request.method), &response);
                    tried += 1;
                }
            }
        }
        assert!(tried > 100, "{tried}");
    })
    .await;
}

#[tokio::test]
async fn unstorable_text_in_a_body_is_no_server_error() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let mut tried = 0;
        let readers = operations().into_iter().filter(|it| it.has_json_body() && !it.is_signed());
        for operation in readers {
            let caller = fixtures.client_for(app, &operation);
            for field in fields(&operation) {
                for value in TEXTS.iter().flat_map(|text| shapes(text)) {
                    let mut body: Value = serde_json::from_str(&fixtures.body(&operation)).unwrap();
                    body[&field] = value;
                    let path = fixtures.path(&operation);
                    let response = caller.send(&operation.method, &path, body.to_string()).await;
                    assert_no_server_error(
                        &format!("{} {path} {body}", operation.method),
                        &response,
                    );
                    tried += 1;
                }
            }
        }
        assert!(tried > 300, "{tried}");
    })
    .await;
}

#[tokio::test]
async fn unstorable_text_in_a_form_is_no_server_error() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let is_form = |it: &Operation| it.has_request_body() && !it.has_json_body();
        let mut tried = 0;
        for operation in operations().into_iter().filter(|it| is_form(it) && !it.is_signed()) {
            let caller = fixtures.client_for(app, &operation);
            for text in TEXTS {
                let body = format!("token={}&token_type_hint={text}", encoded(text));
                let response = caller.send(&operation.method, &operation.path, body).await;
                assert_no_server_error(&operation.path, &response);
                tried += 1;
            }
        }
        assert!(tried > 0);
    })
    .await;
}

#[tokio::test]
async fn text_beyond_ascii_in_a_header_is_no_server_error() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        // Text beyond ASCII, which HTTP accepts in a header's value.
        let invalid = "caf\u{e9}\u{ff}";
        for name in ["user-agent", "origin", "x-request-id", "x-forwarded-for", "accept-language"] {
            let request =
                json!({ "email": ann.email, "password": crate::support::accounts::PASSWORD });
            let response =
                app.anonymous().with(name, invalid).post("/api/auth/sign-in/email", request).await;
            assert_no_server_error(name, &response);
        }
        for name in ["idempotency-key", "x-api-key", "authorization", "cookie", "user-agent"] {
            let client = app.session(&ann.cookie).with(name, invalid);
            let response = client.post("/api/user/organizations", json!({ "name": "x" })).await;
            assert_no_server_error(name, &response);
        }
    })
    .await;
}

/// Sends the event once for each of its values and each of these replacements; returns the number
/// of values.
async fn with_each_replaced(app: &TestApp, event: &Value, values: &[Value]) -> usize {
    let mut pointers = Vec::new();
    collect(event, String::new(), &mut pointers);
    for pointer in &pointers {
        for value in values {
            let mut broken = event.clone();
            *broken.pointer_mut(pointer).unwrap() = value.clone();
            let response = app.send_stripe_event(&broken).await;
            assert_no_server_error(&format!("{pointer} = {value}"), &response);
        }
    }
    pointers.len()
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                collect(member, format!("{at}/{name}"), pointers);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{nth}"), pointers);
            }
        }
        _ => pointers.push(at),
    }
}

#[tokio::test]
async fn unstorable_text_in_a_signed_event_is_a_422_in_a_used_field_and_never_a_server_error() {
    run(async |app| {
        let event = checkout("evt_1", "acme", "starter");
        for field in ["id", "customer", "subscription", "invoice", "currency"] {
            let mut broken = event.clone();
            broken["data"]["object"][field] = json!("a\u{0}b");
            if field == "id" {
                // With an invoice the payment's reference would be the invoice.
                broken["data"]["object"].as_object_mut().unwrap().remove("invoice");
            }
            let response =
                app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            let path = &response.body["issues"][0]["path"];
            assert_eq!(*path, json!(["data", "object", field]));
        }
        for created in [json!(i64::MIN), json!(-300_000_000_000_i64), json!(i64::MAX), json!(1.5)] {
            let mut broken = event.clone();
            broken["created"] = created;
            let response =
                app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["created"]);
        }
        let values = [json!("a\u{0}b"), json!(i64::MIN), json!(i64::MAX), json!(1e300), json!([])];
        assert!(with_each_replaced(app, &event, &values).await > 20);
        let invoice = crate::support::stripe::invoice_paid("evt_2", "acme");
        assert!(with_each_replaced(app, &invoice, &values).await > 10);
    })
    .await;
}

#[test]
fn unstorable_text_in_a_key_import_is_rejected_with_its_line() {
    let work_dir = WorkDir::new();
    let line = json!({ "org_id": "acme", "key": "sk_old_0123456789", "name": "old",
                       "scopes": ["*"], "expires_at": "2036-01-01T00:00:00Z" });
    for field in ["org_id", "key", "name", "scopes", "expires_at"] {
        let mut broken = line.clone();
        broken[field] = if field == "scopes" { json!(["a\u{0}:b"]) } else { json!("a\u{0}b") };
        std::fs::write(work_dir.path().join("keys.jsonl"), broken.to_string()).unwrap();
        let done = work_dir.command(&[]).args(["key", "import", "keys.jsonl"]).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success());
        // A key is stored as a digest, so any text is a key. Its organization does not exist.
        assert!(stderr.contains("line 1"), "{field}: {stderr}");
        assert!(!stderr.contains("invalid byte sequence"), "{field}: {stderr}");
    }
}

#[test]
fn unstorable_text_on_the_command_line_is_rejected() {
    use std::os::unix::ffi::OsStrExt;
    let work_dir = WorkDir::new();
    let invalid = std::ffi::OsStr::from_bytes(b"a\xff\x01b");
    for arguments in [["org", "create"], ["org", "suspend"], ["key", "check"], ["org", "rotate"]] {
        let done = work_dir.command(&[]).args(arguments).arg(invalid).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success());
        assert!(!stderr.contains("database") && !stderr.contains("panicked"), "{stderr}");
    }
}
