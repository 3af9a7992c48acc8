//! Metadata documents as client ids: which of them are used, for how long, and what a
//! fetch cannot change.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::domain::retention::sweep;

use crate::outbound::{INNER_ADDRESSES, has_connection, listen_everywhere};
use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::documents::{DocumentServer, JSON, document, http_response};
use crate::support::oauth::{Browser, OauthClient, REDIRECT_URI, VERIFIER, form};
use crate::support::rate_limits::assert_retry_after;
use crate::support::{TestApp, with_settings};

/// Counts the clients of documents.
const DOCUMENTS: &str = "select count(*) from oauth_clients where kind = 'document'";

/// Runs a test with a server of documents that may be fetched from.
async fn run_with_server(test: impl AsyncFnOnce(&TestApp, &DocumentServer)) {
    let server = DocumentServer::start().await;
    let settings = with_settings(&[("OUTBOUND_ALLOW", &server.allowed())]);
    settings.run(async |app| test(app, &server).await).await;
}

fn client(client_id: &str) -> OauthClient {
    OauthClient { client_id: client_id.to_owned(), redirect_uri: REDIRECT_URI }
}

/// Asserts that a response is an error page with this text, and no redirect.
fn assert_page(response: &TestResponse, text: &str) {
    assert_eq!(response.status, 400, "{response:?}");
    assert!(!response.headers.contains_key("location"), "{response:?}");
    assert!(response.text.contains(text), "no {text:?} in {response:?}");
}

/// Begins a request of a client, and returns the consent page.
async fn consent_page(app: &TestApp, person: &TestAccount, path: &str) -> String {
    let mut browser = Browser::signed_in(app, &person.cookie);
    let handle = browser.begin(path).await;
    let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
    page.assert_status(200).text
}

/// Sends a token request of a client.
async fn exchange(app: &TestApp, client_id: &str, parameters: &[(&str, &str)]) -> TestResponse {
    let all = [&[("client_id", client_id)], parameters].concat();
    let response = app.anonymous().post_form("/oauth2/token", &form(&all)).await;
    let tokens = ["access_token", "refresh_token"].map(|name| response.body[name].as_str());
    let tokens = tokens.into_iter().flatten().map(str::to_owned);
    app.seen_secrets.lock().unwrap().extend(tokens);
    response
}

/// The tokens of a client that the person grants `projects:read` and `offline_access`.
async fn grant(app: &TestApp, person: &TestAccount, client_id: &str) -> Value {
    let mut browser = Browser::signed_in(app, &person.cookie);
    let path = client(client_id).path(&[("scope", "projects:read offline_access")]);
    let answer = browser.grant(&path, &person.org_id).await;
    let code = [
        ("grant_type", "authorization_code"),
        ("code", &answer["code"]),
        ("code_verifier", VERIFIER),
    ];
    exchange(app, client_id, &code).await.assert_status(200).body
}

async fn refresh(app: &TestApp, client_id: &str, tokens: &Value) -> TestResponse {
    let token = tokens["refresh_token"].as_str().unwrap();
    exchange(app, client_id, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

#[tokio::test]
async fn a_document_describes_its_client_but_cannot_set_what_only_this_server_decides() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        let mut document = document(&id);
        for (name, value) in [
            ("skip_consent", json!(true)),
            ("first_party", json!(true)),
            ("status", json!("active")),
            ("organization_id", json!(ann.org_id)),
            ("visibility", json!("private")),
            ("published_at", json!("2020-01-01T00:00:00Z")),
            ("is_published", json!(true)),
            ("kind", json!("registered")),
            ("id", json!("00000000-0000-0000-0000-000000000000")),
        ] {
            document[name] = value;
        }
        server.serve(&document, &["cache-control: max-age=3600"]);
        let page = consent_page(app, &ann, &client(&id).path(&[])).await;
        let host = server.allowed();
        assert!(page.contains(&format!("published at <strong>{host}</strong>")), "{page}");
        assert!(page.contains("<strong>unverified</strong>"), "{page}");
        assert!(page.contains("sent to <strong>app.example.com</strong>"), "{page}");
        let tokens = grant(app, &ann, &id).await;
        let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
        let token = tokens["access_token"].as_str().unwrap();
        app.bearer(token).get(&projects).await.assert_status(200);
        refresh(app, &id, &tokens).await.assert_status(200);
        // A loopback redirect may use any port; the page warns.
        let local = [("redirect_uri", "http://localhost:51234/callback")];
        let page = consent_page(app, &ann, &client(&id).path(&local)).await;
        assert!(page.contains("runs on your own device"), "{page}");
        let other = [("redirect_uri", "http://localhost:51234/other")];
        let response = Browser::signed_in(app, &ann.cookie).get(&client(&id).path(&other)).await;
        assert_page(&response, "not its own");
        // A request must name a scope if the document names none.
        let unnamed = client(&id).path(&[("scope", "")]);
        let response = Browser::signed_in(app, &ann.cookie).get(&unnamed).await.assert_status(303);
        assert!(response.header("location").contains("error=invalid_scope"), "{response:?}");
        let stored = "select count(*) from oauth_clients c
                      join organizations o on o.id = c.organization_id and o.handle = 'system'
                      where kind = 'document' and published_at is null and visibility = 'public'
                        and auth_method = 'none' and created_by is null";
        assert_eq!(app.count(stored).await, 1);
        let [head] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
        assert!(head.to_lowercase().contains("accept: application/json\r\n"), "{head}");
        let metadata = app.anonymous().get("/.well-known/oauth-authorization-server").await.body;
        assert_eq!(metadata["client_id_metadata_document_supported"], true);
    })
    .await;
}

/// Changes a document, or returns the response in its place.
type Fault = Box<dyn Fn(&mut Value) -> Option<String>>;

/// Responses without a usable document. `redirect` has the headers of one.
fn unusable_responses(redirect: String) -> Vec<(&'static str, Fault)> {
    vec![
        (
            "could not be fetched",
            Box::new(|it| {
                it["padding"] = json!("a".repeat(6 * 1024));
                None
            }),
        ),
        (
            "could not be fetched",
            Box::new(move |it| Some(http_response(302, &redirect, &it.to_string()))),
        ),
        ("could not be fetched", Box::new(|it| Some(http_response(404, JSON, &it.to_string())))),
        ("could not be fetched", Box::new(|it| Some(http_response(201, JSON, &it.to_string())))),
        ("could not be fetched", Box::new(|it| Some(http_response(304, JSON, &it.to_string())))),
        (
            "could not be fetched",
            Box::new(|it| Some(http_response(200, "content-type: text/html\r\n", &it.to_string()))),
        ),
        ("could not be fetched", Box::new(|it| Some(http_response(200, "", &it.to_string())))),
        ("could not be fetched", Box::new(|_| Some(http_response(200, JSON, "[]")))),
        ("could not be fetched", Box::new(|_| Some(http_response(200, JSON, "{\"client_id\"")))),
    ]
}

/// Documents that break a rule, each with the words of the page.
fn invalid_documents() -> Vec<(&'static str, Fault)> {
    vec![
        (
            "`client_id` must be the URL that was requested",
            Box::new(|it| {
                it["client_id"] = json!(format!("{}/", it["client_id"].as_str().unwrap()));
                None
            }),
        ),
        (
            "`client_name` is required",
            Box::new(|it| {
                it.as_object_mut().unwrap().remove("client_name");
                None
            }),
        ),
        (
            "`redirect_uris` is required",
            Box::new(|it| {
                it.as_object_mut().unwrap().remove("redirect_uris");
                None
            }),
        ),
        (
            "`redirect_uris` must begin with https://",
            Box::new(|it| {
                it["redirect_uris"] = json!(["javascript:alert(1)"]);
                None
            }),
        ),
        (
            "`token_endpoint_auth_method` must be none or private_key_jwt",
            Box::new(|it| {
                it["token_endpoint_auth_method"] = json!("client_secret_jwt");
                None
            }),
        ),
        (
            "`client_secret` must not be in the document",
            Box::new(|it| {
                it["client_secret"] = json!("s");
                None
            }),
        ),
    ]
}

#[tokio::test]
async fn an_unusable_document_causes_an_error_page_and_is_not_fetched_again_for_a_minute() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let (inner, port) = listen_everywhere();
        let redirect = format!("location: http://127.0.0.1:{port}/\r\n{JSON}");
        let cases = unusable_responses(redirect).into_iter().chain(invalid_documents());
        for (number, (text, change)) in cases.enumerate() {
            let id = server.client_id(&format!("client/{number}"));
            let mut changed = document(&id);
            match change(&mut changed) {
                Some(response) => server.respond(response),
                None => server.serve(&changed, &[]),
            }
            let before = server.requests().len();
            let mut browser = Browser::signed_in(app, &ann.cookie);
            assert_page(&browser.get(&client(&id).path(&[])).await, text);
            server.serve(&document(&id), &[]);
            assert_page(&browser.get(&client(&id).path(&[])).await, text);
            let form = client(&id).query(&[]);
            let posted = browser.post_from_another_site("/oauth2/authorize", &form).await;
            assert_page(&posted, text);
            assert_eq!(server.requests().len(), before + 1, "{number}");
        }
        assert_eq!(app.count(DOCUMENTS).await, 0);
        assert!(!has_connection(&inner));
        app.clock.advance(TimeDelta::seconds(60));
        let id = server.client_id("client/0");
        server.serve(&document(&id), &[]);
        consent_page(app, &ann, &client(&id).path(&[])).await;
    })
    .await;
}

#[tokio::test]
async fn a_document_server_that_never_responds_causes_an_error_page() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        server.fall_silent();
        let id = server.client_id("slow");
        let mut browser = Browser::signed_in(app, &ann.cookie);
        assert_page(&browser.get(&client(&id).path(&[])).await, "could not be fetched");
        assert_eq!(server.requests().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn no_client_id_leads_to_a_connection_inside_the_network() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let (inner, port) = listen_everywhere();
        let mut browser = Browser::signed_in(app, &ann.cookie);
        for scheme in ["https", "http"] {
            for host in INNER_ADDRESSES.into_iter().chain(["localhost", "a.localhost"]) {
                let id = format!("{scheme}://{host}:{port}/client.json");
                let response = browser.get(&client(&id).path(&[])).await;
                assert_page(&response, "The");
                assert!(!response.text.contains("127.0.0.1"), "{response:?}");
            }
        }
        assert!(!has_connection(&inner));
        assert_eq!(server.requests(), Vec::<String>::new());
        for id in
            ["https://client.example.com", "https://Client.example.com/a", "http://a.example/b"]
        {
            let response = browser.get(&client(id).path(&[])).await;
            assert_page(&response, "`client_id` must");
        }
    })
    .await;
}

#[tokio::test]
async fn an_expired_document_is_fetched_again_and_rejected_if_the_fetch_fails() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        server.serve(&document(&id), &["cache-control: max-age=600", "etag: \"one\""]);
        let tokens = grant(app, &ann, &id).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let path = client(&id).path(&[("prompt", "consent")]);
        app.clock.advance(TimeDelta::seconds(599));
        browser.begin(&path).await;
        assert_eq!(server.requests().len(), 1);
        // It is valid for as long as this response says.
        app.clock.advance(TimeDelta::seconds(1));
        server.respond("HTTP/1.1 304 Not Modified\r\ncache-control: max-age=1200\r\n\r\n");
        browser.begin(&path).await;
        assert!(server.requests()[1].contains("if-none-match: \"one\"\r\n"), "no validator");
        app.clock.advance(TimeDelta::seconds(1_199));
        browser.begin(&path).await;
        assert_eq!(server.requests().len(), 2);
        app.clock.advance(TimeDelta::seconds(1));
        server.respond(http_response(503, "", ""));
        assert_page(&browser.get(&path).await, "could not be fetched");
        assert_eq!(server.requests().len(), 3);
        // The other endpoints use what is stored, and fetch nothing.
        let tokens = refresh(app, &id, &tokens).await.assert_status(200).body;
        let token = tokens["refresh_token"].as_str().unwrap();
        let form = form(&[("client_id", &id), ("token", token)]);
        app.anonymous().post_form("/oauth2/revoke", &form).await.assert_status(200);
        let ended = refresh(app, &id, &tokens).await.assert_status(400);
        assert_eq!(ended.body["error"], "invalid_grant");
        assert_eq!(server.requests().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn consent_is_required_again_after_a_document_has_changed() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        server.serve(&document(&id), &[]);
        grant(app, &ann, &id).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let location = async |browser: &mut Browser<'_>, path: &str| {
            let response = browser.get(path).await.assert_status(303);
            response.header("location").to_owned()
        };
        let path = client(&id).path(&[]);
        for _ in 0..2 {
            let location = location(&mut browser, &path).await;
            assert!(location.starts_with(&format!("{REDIRECT_URI}?code=")), "{location}");
            // The same document, fetched again.
            app.clock.advance(TimeDelta::minutes(5));
        }
        assert_eq!(server.requests().len(), 2);
        let mut changed = document(&id);
        changed["redirect_uris"] = json!(["https://other.example.com/callback"]);
        server.serve(&changed, &[]);
        let other = client(&id).path(&[("redirect_uri", "https://other.example.com/callback")]);
        let location = location(&mut browser, &other).await;
        assert!(location.starts_with("/oauth2/consent?"), "{location}");
        assert_page(&browser.get(&path).await, "not its own");
    })
    .await;
}

#[tokio::test]
async fn what_an_organization_or_the_operator_decided_survives_a_fetch() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        server.serve(&document(&id), &[]);
        let tokens = grant(app, &ann, &id).await;
        let policy = format!("/api/user/organizations/{}/app-policy", ann.org_id);
        let blocking = json!({ "mode": "open", "allowed": [], "blocked": [id] });
        let blocked = app.session(&ann.cookie).put(&policy, blocking).await.assert_status(200);
        assert_eq!(blocked.body["data"]["revokedGrants"], 1);
        assert_eq!(
            refresh(app, &id, &tokens).await.assert_status(400).body["error"],
            "invalid_grant"
        );
        app.clock.advance(TimeDelta::minutes(5));
        let mut changed = document(&id);
        changed["client_name"] = json!("Renamed");
        server.serve(&changed, &[]);
        let page = consent_page(app, &ann, &client(&id).path(&[])).await;
        assert!(page.contains("Renamed"), "{page}");
        assert!(page.contains("This organization does not permit this app"), "{page}");
        let open = json!({ "mode": "open", "allowed": [], "blocked": [] });
        app.session(&ann.cookie).put(&policy, open).await.assert_status(200);
        let tokens = grant(app, &ann, &id).await;
        let apps = "/v1/admin/oauth/apps";
        let listed = app.master("OAUTH_APPS").get(&format!("{apps}?kind=document")).await;
        let listed = listed.assert_status(200).body;
        assert_eq!(listed["apps"][0]["client_id"], id);
        assert_eq!(listed["apps"][0]["org_id"], Value::Null);
        let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let change = async |what: &str| {
            let operator = app.master_with_idempotency_key("OAUTH_APPS", what);
            operator.post(&format!("{apps}/{encoded}/{what}"), json!({})).await
        };
        change("publish").await.assert_error(409, "CONFLICT");
        let disabled = change("disable").await.assert_status(200).body;
        assert_eq!(
            (&disabled["status"], &disabled["revoked_grants"]),
            (&json!("disabled"), &json!(1))
        );
        app.clock.advance(TimeDelta::minutes(5));
        let fetched = server.requests().len();
        let mut browser = Browser::signed_in(app, &ann.cookie);
        assert_page(&browser.get(&client(&id).path(&[])).await, "is not known");
        assert_eq!(server.requests().len(), fetched);
        refresh(app, &id, &tokens).await.assert_status(401);
        // The client is kept, so that no fetch enables it.
        app.execute("update oauth_clients set document_expires_at = now() - interval '2 days'")
            .await;
        app.execute("delete from oauth_grants").await;
        sweep(&app.app).await;
        assert_page(&browser.get(&client(&id).path(&[])).await, "is not known");
        change("enable").await.assert_status(200);
        consent_page(app, &ann, &client(&id).path(&[])).await;
    })
    .await;
}

#[tokio::test]
async fn concurrent_requests_share_a_fetch_and_another_server_uses_what_is_stored() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        server.serve(&document(&id), &[]);
        let path = client(&id).path(&[]);
        let pages = (0..10).map(|_| async {
            Browser::signed_in(app, &ann.cookie).get(&path).await.assert_status(303);
        });
        join_all(pages).await;
        let replica = app.replica();
        Browser::signed_in(&replica, &ann.cookie).get(&path).await.assert_status(303);
        assert_eq!(server.requests().len(), 1);
        assert_eq!(app.count(DOCUMENTS).await, 1);
        // One server fetches the expired document again, and the other one uses that, too.
        replica.clock.advance(TimeDelta::minutes(6));
        Browser::signed_in(&replica, &ann.cookie).get(&path).await.assert_status(303);
        app.clock.advance(TimeDelta::minutes(6));
        Browser::signed_in(app, &ann.cookie).get(&path).await.assert_status(303);
        assert_eq!(server.requests().len(), 2);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn fetches_are_limited_for_each_address_and_stored_documents_are_not() {
    let server = DocumentServer::start().await;
    let allowed = server.allowed();
    let limits = r#"{"client_documents":{"quota":2,"window_s":600}}"#;
    let profile = [("LIMITS_PROFILE", "usual"), ("LIMITS", limits), ("OUTBOUND_ALLOW", &*allowed)];
    with_settings(&profile)
        .run(async |app| {
            let ids = ["one", "two", "three"].map(|name| server.client_id(name));
            for id in &ids[..2] {
                server.serve(&document(id), &[]);
                app.anonymous().get(&client(id).path(&[])).await.assert_status(303);
            }
            let rejected = app.anonymous().get(&client(&ids[2]).path(&[])).await;
            assert_retry_after(&rejected.assert_error(429, "slow_down"), "client_documents");
            app.anonymous().get(&client(&ids[0]).path(&[])).await.assert_status(303);
            assert_eq!(server.requests().len(), 2);
        })
        .await;
}

#[tokio::test]
async fn with_oauth_cimd_off_a_url_is_no_client_even_if_its_document_is_stored() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let id = server.client_id("client.json");
        server.serve(&document(&id), &[]);
        let tokens = grant(app, &ann, &id).await;
        let off = app.replica_with(&[("OAUTH_CIMD", "off")]);
        let mut browser = Browser::signed_in(&off, &ann.cookie);
        assert_page(&browser.get(&client(&id).path(&[])).await, "is not known");
        assert_page(&browser.get(&client(&server.client_id("2")).path(&[])).await, "is not known");
        refresh(&off, &id, &tokens).await.assert_status(401);
        let metadata = off.anonymous().get("/.well-known/oauth-authorization-server").await.body;
        assert!(metadata.get("client_id_metadata_document_supported").is_none(), "{metadata}");
        assert_eq!(server.requests().len(), 1);
        off.close();
    })
    .await;
}

#[tokio::test]
async fn a_document_without_grants_is_removed_a_day_after_it_expired() {
    run_with_server(async |app, server| {
        let ann = app.verified_account("ann@example.com").await;
        let (used, unused) = (server.client_id("used"), server.client_id("unused"));
        for id in [&used, &unused] {
            server.serve(&document(id), &[]);
            app.anonymous().get(&client(id).path(&[])).await.assert_status(303);
        }
        grant(app, &ann, &used).await;
        for (age, remaining) in [("23 hours", 2), ("25 hours", 1)] {
            let sql = "update oauth_clients set document_expires_at = now() - $1::interval
                       where kind = 'document'";
            let mut db = app.connect().await;
            sqlx::query(sql).bind(age).execute(&mut db).await.unwrap_or_else(|_| panic!("{age}"));
            sweep(&app.app).await;
            assert_eq!(app.count(DOCUMENTS).await, remaining, "{age}");
        }
        assert_eq!(
            super::texts(app, "select array_agg(client_id) from oauth_clients").await,
            [used]
        );
    })
    .await;
}
