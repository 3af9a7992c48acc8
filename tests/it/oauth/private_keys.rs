//! Clients that prove who they are with a private key (`private_key_jwt`: RFC 7523 §3).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use futures_util::future::join_all;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tenantry::clock::Clock;
use tenantry::domain::retention::sweep;

use crate::support::accounts::TestAccount;
use crate::support::app::{OPENID_KEYS, PRIVATE_KEYS, text};
use crate::support::apps::{app_request, apps_of};
use crate::support::client::TestResponse;
use crate::support::documents::{DocumentServer, document};
use crate::support::oauth::{Browser, ISSUER, OauthClient, VERIFIER, form};
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run, with_settings};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TOKEN: &str = "/oauth2/token";
const REVOKE: &str = "/oauth2/revoke";
/// Revokes nothing, so that only the client's authentication matters.
const NO_TOKEN: (&str, &str) = ("token", "x");

/// A private key of a client.
struct SigningKey {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The public key.
    public: Value,
}

impl SigningKey {
    fn new(algorithm: Algorithm, private: EncodingKey, id: &str) -> Self {
        let mut public = Jwk::from_encoding_key(&private, algorithm).unwrap();
        public.common.key_id = Some(id.to_owned());
        Self { algorithm, private, public: serde_json::to_value(public).unwrap() }
    }

    /// The Ed25519 key with this number among those of [`PRIVATE_KEYS`].
    fn ed25519(number: usize) -> Self {
        let key = PRIVATE_KEYS.split(',').nth(number).unwrap();
        let (id, der) = key.trim().split_once(':').unwrap();
        let der = BASE64_STANDARD.decode(der).unwrap();
        Self::new(Algorithm::EdDSA, EncodingKey::from_ed_der(&der), id)
    }

    fn rsa() -> Self {
        let der = OPENID_KEYS.split(',').next().unwrap().split_once(':').unwrap().1;
        let private = EncodingKey::from_rsa_der(&BASE64_STANDARD.decode(der).unwrap());
        Self::new(Algorithm::RS256, private, "rsa")
    }

    fn p256() -> Self {
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        Self::new(Algorithm::ES256, EncodingKey::from_ec_der(der.as_ref()), "ec")
    }

    fn id(&self) -> String {
        text(&self.public["kid"])
    }

    /// An assertion of a client for this server, with other values of these claims.
    fn sign(&self, app: &TestApp, client_id: &str, changes: &[(&str, Value)]) -> String {
        let now = app.clock.now().timestamp();
        let id: [u8; 16] = std::array::from_fn(|_| 0).map(|_: u8| random_byte(app));
        let mut claims = json!({
            "iss": client_id, "sub": client_id, "aud": ISSUER, "iat": now, "exp": now + 60,
            "jti": hex::encode(id),
        });
        for (name, value) in changes {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(self.id()), ..Header::new(self.algorithm) };
        let signed = encode(&header, &claims, &self.private).unwrap();
        app.seen_secrets.lock().unwrap().push(signed.clone());
        signed
    }
}

fn random_byte(app: &TestApp) -> u8 {
    let mut byte = [0];
    app.app.entropy.fill(&mut byte);
    byte[0]
}

fn key_set(keys: &[&SigningKey]) -> Value {
    json!({ "keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>() })
}

/// Registers an app with these attributes beside its usual ones; returns its client id.
async fn register(app: &TestApp, owner: &TestAccount, attributes: &Value) -> String {
    let created = app.session(&owner.cookie).post(&apps_of(owner), request(attributes)).await;
    let data = created.assert_status(201).body["data"].clone();
    assert_eq!((&data["clientSecret"], &data["secrets"]), (&Value::Null, &json!([])), "{data}");
    text(&data["clientId"])
}

/// A request that registers an app that authenticates with a private key.
fn request(attributes: &Value) -> Value {
    let mut request = app_request("Reports");
    request["tokenEndpointAuthMethod"] = json!("private_key_jwt");
    for (name, value) in attributes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// Sends a request that is authenticated with an assertion.
async fn send(
    app: &TestApp,
    path: &str,
    assertion: &str,
    parameters: &[(&str, &str)],
) -> TestResponse {
    let mut all = vec![("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion)];
    all.extend(parameters);
    let response = app.anonymous().post_form(path, &form(&all)).await;
    let tokens = ["access_token", "refresh_token"].map(|name| response.body[name].as_str());
    let tokens = tokens.into_iter().flatten().map(str::to_owned);
    app.seen_secrets.lock().unwrap().extend(tokens);
    response
}

/// Whether an assertion authenticates its client.
async fn is_accepted(app: &TestApp, assertion: &str) -> bool {
    let response = send(app, REVOKE, assertion, &[NO_TOKEN]).await;
    if response.status != 200 {
        assert_eq!(response.assert_status(401).body["error"], "invalid_client");
        return false;
    }
    true
}

/// The code that a client gets for what the person grants it.
async fn code(app: &TestApp, person: &TestAccount, client: &OauthClient) -> String {
    let scope = "projects:read offline_access";
    let path = client.path(&[("scope", scope), ("prompt", "consent")]);
    let mut browser = Browser::signed_in(app, &person.cookie);
    browser.grant(&path, &person.org_id).await.remove("code").expect("a code")
}

#[tokio::test]
async fn an_app_gets_tokens_with_a_key_of_each_algorithm_and_each_assertion_is_good_once() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let keys = [SigningKey::rsa(), SigningKey::p256(), SigningKey::ed25519(0)];
        let jwks = key_set(&keys.each_ref());
        let client_id = register(app, &ann, &json!({ "jwks": jwks })).await;
        let redirect_uri = "https://reports.example.com/callback";
        let client = OauthClient { client_id: client_id.clone(), redirect_uri };
        for key in &keys {
            let code = code(app, &ann, &client).await;
            let parameters = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("code_verifier", VERIFIER),
            ];
            let assertion = key.sign(app, &client_id, &[]);
            let tokens = send(app, TOKEN, &assertion, &parameters).await.assert_status(200).body;
            let refresh = [("grant_type", "refresh_token"), ("client_id", client_id.as_str())];
            let refresh = [&refresh[..], &[("refresh_token", &text(&tokens["refresh_token"]))]];
            let refresh = refresh.concat();
            let again = send(app, TOKEN, &assertion, &refresh).await.assert_status(401);
            assert_eq!(again.body["error"], "invalid_client");
            let token_endpoint = json!(format!("{ISSUER}/oauth2/token"));
            let assertion = key.sign(app, &client_id, &[("aud", token_endpoint)]);
            let tokens = send(app, TOKEN, &assertion, &refresh).await.assert_status(200).body;
            let access_token = text(&tokens["access_token"]);
            let assertion = key.sign(app, &client_id, &[]);
            let token = [("token", access_token.as_str())];
            let shown = send(app, "/oauth2/introspect", &assertion, &token).await;
            assert_eq!(shown.assert_status(200).body["active"], true);
            let assertion = key.sign(app, &client_id, &[]);
            send(app, REVOKE, &assertion, &token).await.assert_status(200);
            app.bearer(&access_token).get("/me").await.assert_status(401);
        }
        let kept = "select count(*) from oauth_assertions";
        assert_eq!(app.count(kept).await, 12);
        app.execute("update oauth_assertions set expires_at = now() - interval '61 minutes'").await;
        sweep(&app.app).await;
        assert_eq!(app.count(kept).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_20_concurrent_uses_of_an_assertion_succeeds() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = SigningKey::ed25519(0);
        let client_id = register(app, &ann, &json!({ "jwks": key_set(&[&key]) })).await;
        let assertion = key.sign(app, &client_id, &[]);
        let uses = (0..20).map(|_| is_accepted(app, &assertion));
        let accepted = join_all(uses).await.into_iter().filter(|accepted| *accepted).count();
        assert_eq!(accepted, 1);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_assertion_and_one_beside_another_proof_are_rejected() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let [key, other_key] = [0, 1].map(SigningKey::ed25519);
        let client_id = register(app, &ann, &json!({ "jwks": key_set(&[&key]) })).await;
        let other = json!({ "name": "Other", "jwks": key_set(&[&other_key]) });
        let other_id = register(app, &ann, &other).await;
        let with_secret = text(&app.create_app(&ann, "With a secret").await["clientId"]);
        let now = app.clock.now().timestamp();
        let sign = |key: &SigningKey, client_id: &str, changes: &[(&str, Value)]| {
            key.sign(app, client_id, changes)
        };
        for assertion in [
            sign(&other_key, &client_id, &[]),
            sign(&key, &other_id, &[]),
            sign(&key, &with_secret, &[]),
            sign(&key, "app_unknown", &[]),
            sign(&key, &client_id, &[("iss", json!(other_id))]),
            sign(&key, &client_id, &[("aud", json!("https://other.example"))]),
            sign(&key, &client_id, &[("exp", json!(now - 60))]),
            sign(&key, &client_id, &[("exp", json!(now + 3600))]),
            sign(&key, &client_id, &[("jti", Value::Null)]),
            "a.b.c".to_owned(),
        ] {
            assert!(!is_accepted(app, &assertion).await, "{assertion}");
        }
        // Without an assertion it is not the client.
        let anonymous = form(&[NO_TOKEN, ("client_id", &client_id)]);
        app.anonymous().post_form(REVOKE, &anonymous).await.assert_status(401);
        let assertion = key.sign(app, &client_id, &[]);
        for (parameters, problem) in [
            (vec![("client_id", other_id.as_str())], "client_id"),
            (vec![("client_secret", "s")], "client_secret"),
        ] {
            let parameters = [&parameters[..], &[NO_TOKEN]].concat();
            let response = send(app, REVOKE, &assertion, &parameters).await.assert_status(400);
            assert_eq!(response.body["error"], "invalid_request");
            assert!(text(&response.body["error_description"]).contains(problem), "{response:?}");
        }
        for parameters in [
            vec![("client_assertion", assertion.as_str())],
            vec![("client_assertion_type", ASSERTION_TYPE)],
            vec![("client_assertion", &assertion), ("client_assertion_type", "saml2-bearer")],
        ] {
            let form = form(&[&parameters[..], &[NO_TOKEN]].concat());
            let response = app.anonymous().post_form(REVOKE, &form).await.assert_status(400);
            assert_eq!(response.body["error"], "invalid_request", "{response:?}");
        }
        let basic = app.anonymous().with("authorization", "Basic YTpi");
        let both =
            [NO_TOKEN, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion)];
        basic.post_form(REVOKE, &form(&both)).await.assert_status(400);
        // None of these requests has used it.
        assert!(is_accepted(app, &assertion).await);
    })
    .await;
}

#[tokio::test]
async fn published_keys_are_fetched_when_they_are_needed_and_can_be_replaced() {
    let server = DocumentServer::start().await;
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let [key, next] = [0, 1].map(SigningKey::ed25519);
            let url = server.client_id("jwks.json");
            let client_id = register(app, &ann, &json!({ "jwksUri": url })).await;
            let accepts =
                async |key: &SigningKey| is_accepted(app, &key.sign(app, &client_id, &[])).await;
            server.serve(&key_set(&[&key]), &[]);
            assert!(accepts(&key).await && accepts(&key).await);
            assert_eq!(server.requests().len(), 1);
            // A key that is not in the set may be new. The set is fetched again after a minute.
            server.serve(&key_set(&[&next]), &[]);
            assert!(!accepts(&next).await);
            assert_eq!(server.requests().len(), 1);
            app.clock.advance(TimeDelta::seconds(60));
            assert!(accepts(&next).await && !accepts(&key).await);
            assert_eq!(server.requests().len(), 2);
            app.clock.advance(TimeDelta::seconds(299));
            assert!(accepts(&next).await);
            assert_eq!(server.requests().len(), 2);
            app.clock.advance(TimeDelta::seconds(1));
            // A set that cannot be fetched any more is not used, nor fetched again within a minute.
            server.respond("HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\n");
            assert!(!accepts(&next).await && !accepts(&next).await);
            assert_eq!(server.requests().len(), 3);
            app.clock.advance(TimeDelta::seconds(60));
            server.serve(&key_set(&[&next]), &[]);
            assert!(accepts(&next).await);
            assert_eq!(server.requests().len(), 4);
        })
        .await;
}

#[tokio::test]
async fn keys_are_not_fetched_from_inside_the_network_and_fetches_are_rate_limited_by_address() {
    let server = DocumentServer::start().await;
    // OUTBOUND_ALLOW does not allow it.
    with_settings(&[("LIMITS_PROFILE", "strict")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let key = SigningKey::ed25519(0);
            let mut ids = Vec::new();
            for number in 0..11 {
                let url = format!("https://app.example.com/jwks{number}.json");
                let attributes = json!({ "name": format!("App {number}"), "jwksUri": url });
                app.execute("update organizations set plan = 'enterprise'").await;
                ids.push(register(app, &ann, &attributes).await);
            }
            let moved = "update oauth_clients
                         set jwks_uri = replace(jwks_uri, 'https://app.example.com/', $1)";
            let moved = sqlx::query(moved).bind(server.client_id(""));
            moved.execute(&mut app.connect().await).await.unwrap();
            for id in &ids[..10] {
                assert!(!is_accepted(app, &key.sign(app, id, &[])).await);
            }
            let assertion = key.sign(app, &ids[10], &[]);
            let limited = send(app, REVOKE, &assertion, &[NO_TOKEN]).await.assert_status(429);
            assert_eq!(limited.body["error"], "slow_down");
            assert!(server.requests().is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_client_of_a_metadata_document_authenticates_with_the_keys_that_the_document_names() {
    let server = DocumentServer::start().await;
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let [key, other] = [0, 1].map(SigningKey::ed25519);
            let client_id = server.client_id("client.json");
            let mut metadata = document(&client_id);
            metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
            metadata["jwks"] = key_set(&[&key]);
            server.serve(&metadata, &[]);
            let redirect_uri = "https://app.example.com/callback";
            let client = OauthClient { client_id: client_id.clone(), redirect_uri };
            let code = code(app, &ann, &client).await;
            let parameters = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("code_verifier", VERIFIER),
                ("client_id", &client_id),
            ];
            app.anonymous().post_form(TOKEN, &form(&parameters)).await.assert_status(401);
            let assertion = other.sign(app, &client_id, &[]);
            send(app, TOKEN, &assertion, &parameters).await.assert_status(401);
            let assertion = key.sign(app, &client_id, &[]);
            send(app, TOKEN, &assertion, &parameters).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn an_app_has_a_secret_or_keys_as_its_method_needs_and_never_both() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let key = SigningKey::ed25519(0);
        let path = format!("{}/{}", apps_of(&ann), text(&app.create_app(&ann, "A").await["id"]));
        let change = async |change: Value| session.put(&path, change).await;
        let method = |method: &str| json!({ "tokenEndpointAuthMethod": method });
        let missing = change(method("private_key_jwt")).await.assert_status(400);
        assert_eq!(missing.invalid_fields(), ["jwks"]);
        let mut with_keys = method("private_key_jwt");
        with_keys["jwks"] = key_set(&[&key]);
        let changed = change(with_keys).await.assert_status(200).body["data"].clone();
        assert_eq!(changed["jwks"]["keys"][0]["kid"], "e1");
        assert_eq!((&changed["jwksUri"], &changed["secrets"]), (&Value::Null, &json!([])));
        session.post(&format!("{path}/secrets"), json!({})).await.assert_status(409);
        let url = "https://reports.example.com/jwks.json";
        let changed = change(json!({ "jwksUri": url })).await.assert_status(200);
        assert_eq!(changed.body["data"]["jwksUri"], url);
        assert_eq!(changed.body["data"]["jwks"], Value::Null);
        let renamed = change(json!({ "name": "B" })).await.assert_status(200);
        assert_eq!(renamed.body["data"]["jwksUri"], url);
        let changed = change(method("client_secret_basic")).await.assert_status(200);
        assert_eq!(changed.body["data"]["jwksUri"], Value::Null);
        session.post(&format!("{path}/secrets"), json!({})).await.assert_status(201);
        let mut private = key.public.clone();
        private["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
        for (attributes, problems) in [
            (json!({}), vec!["jwks"]),
            (json!({ "jwks": { "keys": [private] } }), vec!["jwks"]),
            (json!({ "jwks": "{}", "jwksUri": "ftp://a" }), vec!["jwks", "jwksUri"]),
            // Neither can be fetched.
            (json!({ "jwksUri": "http://app.example.com/jwks.json" }), vec!["jwksUri"]),
            (json!({ "jwksUri": "https://10.0.0.1/jwks.json" }), vec!["jwksUri"]),
            (json!({ "jwks": key_set(&[&key]), "jwksUri": url }), vec!["jwksUri"]),
        ] {
            let response = session.post(&apps_of(&ann), request(&attributes)).await;
            let response = response.assert_status(400);
            let mut fields = response.invalid_fields();
            fields.dedup();
            assert_eq!(fields, problems, "{attributes}");
        }
    })
    .await;
}

#[tokio::test]
async fn requests_that_wait_for_a_slow_key_server_hold_no_permit_and_share_one_fetch() {
    let server = DocumentServer::start().await;
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let key = SigningKey::ed25519(0);
            let url = server.client_id("jwks.json");
            let client_id = register(app, &ann, &json!({ "jwksUri": url })).await;
            server.fall_silent();
            let waiting = (0..12).map(|number| {
                let path = if number % 2 == 0 { REVOKE } else { "/oauth2/introspect" };
                let assertion = key.sign(app, &client_id, &[]);
                async move { send(app, path, &assertion, &[NO_TOKEN]).await.status }
            });
            let watching = async {
                let are_waiting = async || app.app.in_flight.waiting() == 12;
                wait_until_async("12 requests wait for the keys", are_waiting).await;
                assert_eq!(app.app.in_flight.total(), 0);
                assert_eq!(app.app.verifications_in_flight.total(), 0);
            };
            let (statuses, ()) = tokio::join!(join_all(waiting), watching);
            assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
            assert_eq!(server.requests().len(), 1);
            // More requests at once than the limit of fetches need one fetch, and all succeed.
            app.clock.advance(TimeDelta::seconds(60));
            server.serve(&key_set(&[&key]), &[]);
            let assertions = [(); 40].map(|()| key.sign(app, &client_id, &[]));
            let accepted = join_all(assertions.iter().map(|it| is_accepted(app, it))).await;
            assert!(accepted.iter().all(|it| *it), "{accepted:?}");
            assert_eq!(server.requests().len(), 2);
        })
        .await;
}

#[tokio::test]
async fn an_assertion_that_the_rate_limit_rejects_is_neither_used_up_nor_recorded() {
    with_settings(&[("LIMITS_PROFILE", "strict")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let key = SigningKey::ed25519(0);
            let client_id = register(app, &ann, &json!({ "jwks": key_set(&[&key]) })).await;
            let (mut accepted, mut rejected) = (0, Vec::new());
            while rejected.len() < 3 {
                let assertion = key.sign(app, &client_id, &[]);
                match send(app, REVOKE, &assertion, &[NO_TOKEN]).await.status.as_u16() {
                    200 => accepted += 1,
                    status => {
                        assert_eq!(status, 429);
                        rejected.push(assertion);
                    }
                }
            }
            assert!(accepted >= 30);
            assert_eq!(app.count("select count(*) from oauth_assertions").await, accepted);
            let other = app.replica_with(&[("LIMITS_PROFILE", "off")]);
            for assertion in &rejected {
                assert!(is_accepted(&other, assertion).await);
            }
            other.close();
        })
        .await;
}

#[tokio::test]
async fn a_client_authenticates_only_as_its_app_is_registered_now() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = SigningKey::ed25519(0);
        let client_id = register(app, &ann, &json!({ "jwks": key_set(&[&key]) })).await;
        let (session, path) = (app.session(&ann.cookie), apps_of(&ann));
        let path = format!("{path}/{client_id}");
        for method in ["client_secret_post", "none"] {
            assert!(is_accepted(app, &key.sign(app, &client_id, &[])).await);
            let change = json!({ "tokenEndpointAuthMethod": method });
            session.put(&path, change).await.assert_status(200);
            assert!(!is_accepted(app, &key.sign(app, &client_id, &[])).await, "{method}");
            let mut change = json!({ "tokenEndpointAuthMethod": "private_key_jwt" });
            change["jwks"] = key_set(&[&key]);
            session.put(&path, change).await.assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn authentication_fetches_a_metadata_document_again_after_5_minutes() {
    let server = DocumentServer::start().await;
    with_settings(&[("OUTBOUND_ALLOW", &server.allowed())])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let [key, next] = [0, 1].map(SigningKey::ed25519);
            let client_id = server.client_id("client.json");
            let serve = |key: Option<&SigningKey>| {
                let mut metadata = document(&client_id);
                if let Some(key) = key {
                    metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
                    metadata["jwks"] = key_set(&[key]);
                }
                server.serve(&metadata, &[]);
            };
            let as_public = async || {
                let form = form(&[NO_TOKEN, ("client_id", &client_id)]);
                app.anonymous().post_form(REVOKE, &form).await.status.as_u16()
            };
            serve(None);
            // A client that has not asked anyone for access is unknown.
            assert_eq!(as_public().await, 401);
            assert!(server.requests().is_empty());
            let redirect_uri = "https://app.example.com/callback";
            let client = OauthClient { client_id: client_id.clone(), redirect_uri };
            code(app, &ann, &client).await;
            assert_eq!(as_public().await, 200);
            serve(Some(&key));
            app.clock.advance(TimeDelta::minutes(5));
            assert_eq!(as_public().await, 401);
            let accepts =
                async |key: &SigningKey| is_accepted(app, &key.sign(app, &client_id, &[])).await;
            assert!(accepts(&key).await);
            serve(Some(&next));
            assert!(!accepts(&next).await);
            app.clock.advance(TimeDelta::minutes(5));
            assert!(accepts(&next).await && !accepts(&key).await);
            // While the document's server fails, the client has to try again.
            app.clock.advance(TimeDelta::minutes(5));
            server.respond("HTTP/1.1 500 Error\r\ncontent-length: 0\r\n\r\n");
            let assertion = next.sign(app, &client_id, &[]);
            let unavailable = send(app, REVOKE, &assertion, &[NO_TOKEN]).await.assert_status(503);
            assert_eq!(unavailable.body["error"], "temporarily_unavailable");
            app.clock.advance(TimeDelta::seconds(60));
            serve(Some(&next));
            assert!(accepts(&next).await);
        })
        .await;
}
