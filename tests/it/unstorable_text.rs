//! Text and times that the database can not hold: refused or not found at every door, never a 5xx.

use serde_json::{Value, json};

use crate::support::client::TestResponse;
use crate::support::requests::Fixtures;
use crate::support::server::WorkDir;
use crate::support::spec::{DOCUMENT, Operation, operations};
use crate::support::stripe::checkout;
use crate::support::{TestApp, run};

/// Texts that no column of ours takes, or that only look like a time.
const TEXTS: [&str; 3] = ["a\u{0}b", "\u{0}", "0000-01-01T00:00:00Z"];

/// How a text is written in a path or a query.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[track_caller]
fn assert_no_server_error(what: &str, answer: &TestResponse) {
    assert!(!answer.status.is_server_error(), "{what}: {} {}", answer.status, answer.text);
}

/// The names of an operation's parameters in its path or its query.
fn parameters<'a>(operation: &'a Operation, place: &'a str) -> impl Iterator<Item = &'a str> {
    let parameters = operation.description["parameters"].as_array().into_iter().flatten();
    let placed = parameters.filter(move |parameter| parameter["in"] == place);
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

/// The text as a field may hold it: alone, in a list, as a value and as a name.
fn shapes(text: &str) -> [Value; 4] {
    [json!(text), json!([text]), json!({ "a": text }), json!({ text: "a" })]
}

#[tokio::test]
async fn in_paths_and_queries_it_is_refused_or_names_nothing() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let mut tried = 0;
        for operation in operations().iter().filter(|it| !it.is_signed()) {
            let caller = world.client_for(app, operation);
            for text in TEXTS.map(encoded) {
                let in_path = parameters(operation, "path")
                    .map(|name| operation.path.replace(&format!("{{{name}}}"), &text));
                let in_query = parameters(operation, "query")
                    .map(|name| format!("{}?{name}={text}", operation.path));
                for template in in_path.chain(in_query) {
                    let named = Operation {
                        method: operation.method.clone(),
                        path: template,
                        description: operation.description.clone(),
                    };
                    let path = world.path(&named);
                    let answer = caller.send(&named.method, &path, world.body(operation)).await;
                    assert_no_server_error(&format!("{} {path}", named.method), &answer);
                    tried += 1;
                }
            }
        }
        assert!(tried > 100, "{tried}");
    })
    .await;
}

#[tokio::test]
async fn in_bodies_it_is_refused() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let mut tried = 0;
        let readers =
            operations().into_iter().filter(|it| it.has_request_body() && !it.is_signed());
        for operation in readers {
            let caller = world.client_for(app, &operation);
            for field in fields(&operation) {
                for value in TEXTS.iter().flat_map(|text| shapes(text)) {
                    let mut body: Value = serde_json::from_str(&world.body(&operation)).unwrap();
                    body[&field] = value;
                    let path = world.path(&operation);
                    let answer = caller.send(&operation.method, &path, body.to_string()).await;
                    assert_no_server_error(&format!("{} {path} {body}", operation.method), &answer);
                    tried += 1;
                }
            }
        }
        assert!(tried > 300, "{tried}");
    })
    .await;
}

#[tokio::test]
async fn in_headers_it_is_refused_or_not_kept() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        // Bytes that HTTP takes in a header's value, and Postgres in no text.
        let odd = "caf\u{e9}\u{ff}";
        for name in ["user-agent", "origin", "x-request-id", "x-forwarded-for", "accept-language"] {
            let request =
                json!({ "email": ann.email, "password": crate::support::accounts::PASSWORD });
            let answer =
                app.anonymous().with(name, odd).post("/api/auth/sign-in/email", request).await;
            assert_no_server_error(name, &answer);
        }
        for name in ["idempotency-key", "x-api-key", "authorization", "cookie", "user-agent"] {
            let made = app.session(&ann.cookie).with(name, odd);
            let answer = made.post("/api/user/organizations", json!({ "name": "x" })).await;
            assert_no_server_error(name, &answer);
        }
    })
    .await;
}

/// Every string of an event, and every number, with what no column takes in its place.
async fn with_each_replaced(app: &TestApp, event: &Value, values: &[Value]) -> usize {
    let mut pointers = Vec::new();
    collect(event, String::new(), &mut pointers);
    for pointer in &pointers {
        for value in values {
            let mut broken = event.clone();
            *broken.pointer_mut(pointer).unwrap() = value.clone();
            let answer = app.send_stripe_event(&broken).await;
            assert_no_server_error(&format!("{pointer} = {value}"), &answer);
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
async fn in_a_signed_event_it_is_a_422_where_it_is_needed_and_passed_over_elsewhere() {
    run(async |app| {
        let event = checkout("evt_1", "acme", "starter");
        for place in ["id", "customer", "subscription", "invoice", "currency"] {
            let mut broken = event.clone();
            broken["data"]["object"][place] = json!("a\u{0}b");
            if place == "id" {
                // An invoice would be what the payment is known by.
                broken["data"]["object"].as_object_mut().unwrap().remove("invoice");
            }
            let answer = app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            let path = &answer.body["issues"][0]["path"];
            assert_eq!(*path, json!(["data", "object", place]));
        }
        for created in [json!(i64::MIN), json!(-300_000_000_000_i64), json!(i64::MAX), json!(1.5)] {
            let mut broken = event.clone();
            broken["created"] = created;
            let answer = app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            assert_eq!(answer.invalid_fields(), ["created"]);
        }
        let values = [json!("a\u{0}b"), json!(i64::MIN), json!(i64::MAX), json!(1e300), json!([])];
        assert!(with_each_replaced(app, &event, &values).await > 20);
        let invoice = crate::support::stripe::invoice_paid("evt_2", "acme");
        assert!(with_each_replaced(app, &invoice, &values).await > 10);
    })
    .await;
}

#[test]
fn in_a_file_of_keys_it_is_refused_by_its_line() {
    let place = WorkDir::new();
    let line = json!({ "org_id": "acme", "key": "sk_old_0123456789", "name": "old",
                       "scopes": ["*"], "expires_at": "2036-01-01T00:00:00Z" });
    for field in ["org_id", "key", "name", "scopes", "expires_at"] {
        let mut broken = line.clone();
        broken[field] = if field == "scopes" { json!(["a\u{0}:b"]) } else { json!("a\u{0}b") };
        std::fs::write(place.path().join("keys.jsonl"), broken.to_string()).unwrap();
        let done = place.command(&[]).args(["key", "import", "keys.jsonl"]).output().unwrap();
        let complaint = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success());
        // A key is kept as a digest: any text may be one, and its organization is not there.
        assert!(complaint.contains("line 1"), "{field}: {complaint}");
        assert!(!complaint.contains("invalid byte sequence"), "{field}: {complaint}");
    }
}

#[test]
fn on_the_command_line_it_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let place = WorkDir::new();
    let odd = std::ffi::OsStr::from_bytes(b"a\xff\x01b");
    for arguments in [["org", "create"], ["org", "suspend"], ["key", "check"], ["org", "rotate"]] {
        let done = place.command(&[]).args(arguments).arg(odd).output().unwrap();
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success());
        assert!(!complaint.contains("database") && !complaint.contains("panicked"), "{complaint}");
    }
}
