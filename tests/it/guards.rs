//! Walks the API's description: every route that says it needs a credential refuses whoever has
//! none or a bad one, and those that say nothing are on a list that may only shrink.

use tenantry::model::key_format::KeyFormat;

use crate::support::requests::Fixtures;
use crate::support::run;
use crate::support::spec::{Operation, operations};

/// The routes that anyone may call.
const PUBLIC: [&str; 19] = [
    "GET /.well-known/jwks.json",
    // The token of the mailed link is the credential, as of the other links.
    "GET /api/auth/claim-key",
    "GET /api/auth/get-session",
    "GET /api/auth/reset-password",
    "GET /api/auth/verify-email",
    "GET /api/user/invites/{token}/accept",
    "GET /health/live",
    "GET /health/ready",
    "POST /api/auth/claim-key",
    "POST /api/auth/request-password-reset",
    "POST /api/auth/reset-password",
    "POST /api/auth/sign-in/email",
    "POST /api/auth/sign-up/email",
    "POST /api/auth/verify-email",
    "POST /auth/login",
    "POST /auth/refresh",
    "POST /auth/signup",
    "POST /auth/token-exchange",
    "POST /signup",
];

/// The routes that take no credential but a signature of the body.
const SIGNED: [&str; 1] = ["POST /webhooks/stripe"];

fn guarded() -> impl Iterator<Item = Operation> {
    operations().into_iter().filter(|it| it.requires_credential() && !it.is_signed())
}

#[test]
fn no_route_is_public_but_those_on_the_list() {
    let public = operations().into_iter().filter(|operation| !operation.requires_credential());
    let mut public: Vec<_> = public.map(|it| format!("{} {}", it.method, it.path)).collect();
    public.sort();
    assert_eq!(public, PUBLIC);
    let signed = operations().into_iter().filter(Operation::is_signed);
    let signed: Vec<_> = signed.map(|it| format!("{} {}", it.method, it.path)).collect();
    assert_eq!(signed, SIGNED);
}

#[tokio::test]
async fn every_signed_route_refuses_every_credential_and_a_signature_of_another_body() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let strangers = [
            app.anonymous(),
            app.key(&world.acme.api_key),
            app.master("ORG_CREATE"),
            app.session(&world.ann.cookie),
            app.bearer(&world.ann.token),
            app.stripe_client("{}"),
        ];
        for operation in operations().iter().filter(|it| it.is_signed()) {
            let (path, body) = (world.path(operation), world.body(operation));
            for stranger in &strangers {
                let answer = stranger.send(&operation.method, &path, body.clone()).await;
                answer.assert_error(400, "malformed");
            }
            let signed = world.client_for(app, operation);
            signed.send(&operation.method, &path, body).await.assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn every_guarded_route_refuses_two_credentials_at_once() {
    run(async |app| {
        let (world, other) = (Fixtures::new(app).await, app.sign_up().await);
        let both = app.key(&world.acme.api_key);
        let both = both.with("authorization", &format!("Bearer {}", other.api_key));
        for operation in guarded() {
            both.send(&operation.method, &world.path(&operation), "").await.assert_status(400);
        }
    })
    .await;
}

#[tokio::test]
async fn every_guarded_route_refuses_no_credential_and_a_bad_one_with_the_family_s_401() {
    run(async |app| {
        let world = Fixtures::new(app).await;
        let unknown = app.app.config.keys.format.mint(&*app.app.entropy);
        let strangers = [
            app.anonymous(),
            app.key("garbage"),
            app.key(unknown.expose()),
            app.bearer(unknown.expose()),
            app.bearer("a.b.c"),
            app.anonymous().with("authorization", "Basic YTpi"),
            app.session("garbage"),
            app.session(KeyFormat::session_token().mint(&*app.app.entropy).expose()),
            // A wrong credential is not rescued by a good cookie.
            app.session(&world.ann.cookie).with("x-api-key", "garbage"),
        ];
        for operation in guarded() {
            let path = world.path(&operation);
            for stranger in &strangers {
                let answer = stranger.send(&operation.method, &path, "").await;
                let answer = answer.assert_error(401, "unauthorized");
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
        }
    })
    .await;
}
