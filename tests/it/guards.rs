//! Authentication of every route in the API's description: routes that require a credential reject
//! a missing or invalid one, and the other routes are on a list.

use tenantry::model::key_format::KeyFormat;

use crate::support::github::SigningKey;
use crate::support::requests::Fixtures;
use crate::support::run;
use crate::support::spec::{Operation, operations};

/// The routes that anyone may call.
const PUBLIC: [&str; 37] = [
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /.well-known/oauth-protected-resource",
    "GET /.well-known/openid-configuration",
    // For mailed links, the token of the link is the credential.
    "GET /api/auth/claim-key",
    "GET /api/auth/get-session",
    "GET /api/auth/reset-password",
    // The browser's cookie and the provider's answer are the credential.
    "GET /api/auth/sso/callback/{connectionId}",
    "GET /api/auth/sso/error",
    "GET /api/auth/sso/start",
    "GET /api/auth/verify-email",
    "GET /api/user/invites/{token}/accept",
    "GET /device",
    "GET /health/live",
    "GET /health/ready",
    "GET /oauth2/authorize",
    "GET /oauth2/consent",
    "GET /oauth2/sign-in",
    "POST /api/auth/claim-key",
    "POST /api/auth/identify",
    "POST /api/auth/request-password-reset",
    "POST /api/auth/reset-password",
    "POST /api/auth/sign-in/email",
    "POST /api/auth/sign-in/sso",
    "POST /api/auth/sign-up/email",
    "POST /api/auth/verify-email",
    "POST /auth/login",
    "POST /auth/refresh",
    "POST /auth/signup",
    "POST /auth/token-exchange",
    "POST /oauth2/authorize",
    // OAuth clients authenticate in the body, or have no secret.
    "POST /oauth2/device_authorization",
    "POST /oauth2/register",
    "POST /oauth2/revoke",
    "POST /oauth2/token",
    "POST /signup",
    // Anyone with the text of a key may report it.
    "POST /v1/leaks",
];

/// The routes that are authenticated by a signature of the body.
const SIGNED: [&str; 2] = ["POST /webhooks/github/secret-scanning", "POST /webhooks/stripe"];

/// The operations that require a credential of their caller.
fn protected() -> impl Iterator<Item = Operation> {
    let protected = operations().into_iter().filter(Operation::requires_credential);
    protected.filter(|it| !it.is_signed() && !it.requires_verifier())
}

#[tokio::test]
async fn every_route_for_verifiers_rejects_a_missing_or_wrong_secret_and_every_other_credential() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let mut count = 0;
        for operation in operations().iter().filter(|it| it.requires_verifier()) {
            let clients = [
                app.anonymous(),
                app.anonymous().with("x-tenantry-verifier", "garbage"),
                app.verifier().with("x-tenantry-verifier", "another"),
                app.key(&fixtures.acme.api_key),
                app.bearer(&fixtures.ann.token),
                app.session(&fixtures.ann.cookie),
                app.master("ORG_CREATE"),
            ];
            let (path, body) = (fixtures.path(operation), fixtures.body(operation));
            for client in &clients {
                let content_type = operation.content_type().unwrap_or("application/json");
                let client = client.with("content-type", content_type);
                let response = client.send(&operation.method, &path, body.clone()).await;
                // A proxy must not tell its client that the client's credential is wrong.
                let (status, code) = if operation.is_for_proxies() {
                    (503, "service_unavailable")
                } else {
                    (401, "unauthorized")
                };
                response.assert_error(status, code);
            }
            count += 1;
        }
        assert_eq!(count, 10);
    })
    .await;
}

#[test]
fn only_the_listed_routes_are_public_or_signed() {
    let public = operations().into_iter().filter(|operation| !operation.requires_credential());
    let mut public: Vec<_> = public.map(|it| format!("{} {}", it.method, it.path)).collect();
    public.sort();
    assert_eq!(public, PUBLIC);
    let signed = operations().into_iter().filter(Operation::is_signed);
    let mut signed: Vec<_> = signed.map(|it| format!("{} {}", it.method, it.path)).collect();
    signed.sort();
    assert_eq!(signed, SIGNED);
}

#[tokio::test]
async fn every_signed_route_rejects_credentials_and_a_signature_of_another_body() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let clients = [
            app.anonymous(),
            app.key(&fixtures.acme.api_key),
            app.master("ORG_CREATE"),
            app.session(&fixtures.ann.cookie),
            app.bearer(&fixtures.ann.token),
            app.stripe_client("{}"),
            SigningKey::pinned().client(app, "{}"),
        ];
        for operation in operations().iter().filter(|it| it.is_signed()) {
            let (path, body) = (fixtures.path(operation), fixtures.body(operation));
            for client in &clients {
                let response = client.send(&operation.method, &path, body.clone()).await;
                // What GitHub expects, and what Stripe shows to the operator.
                let (status, code) = match operation.id() {
                    "receiveGithubSecrets" => (401, "unauthorized"),
                    _ => (400, "malformed"),
                };
                response.assert_error(status, code);
            }
            let signed = fixtures.client_for(app, operation);
            signed.send(&operation.method, &path, body).await.assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn every_protected_route_rejects_two_credentials_at_once() {
    run(async |app| {
        let (fixtures, other) = (Fixtures::new(app).await, app.sign_up().await);
        let both = app.key(&fixtures.acme.api_key);
        let both = both.with("authorization", &format!("Bearer {}", other.api_key));
        for operation in protected() {
            both.send(&operation.method, &fixtures.path(&operation), "").await.assert_status(400);
        }
    })
    .await;
}

#[tokio::test]
async fn every_protected_route_rejects_a_missing_or_invalid_credential_with_401() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
        let clients = [
            app.anonymous(),
            app.key("garbage"),
            app.key(unknown.expose()),
            app.bearer(unknown.expose()),
            app.bearer("a.b.c"),
            app.anonymous().with("authorization", "Basic YTpi"),
            app.session("garbage"),
            app.session(KeyFormat::session_token().generate(&*app.app.entropy).expose()),
            // An invalid credential is rejected despite a valid cookie.
            app.session(&fixtures.ann.cookie).with("x-api-key", "garbage"),
        ];
        for operation in protected() {
            let path = fixtures.path(&operation);
            for client in &clients {
                let response = client.send(&operation.method, &path, "").await;
                let response = response.assert_error(401, "unauthorized");
                assert!(response.header("www-authenticate").contains("Bearer"));
            }
        }
    })
    .await;
}
