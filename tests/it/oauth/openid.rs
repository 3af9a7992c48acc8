//! `OpenID` Connect: ID tokens, the userinfo endpoint and the documents about them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry::clock::Clock;
use tenantry::model::oauth::IdTokenAlgorithm;

use super::flow::{App, exchange, refresh};
use crate::support::accounts::TestAccount;
use crate::support::app::OPENID_KEYS;
use crate::support::client::TestResponse;
use crate::support::oauth::{
    Browser, ISSUER, OauthClient, REDIRECT_URI, VERIFIER, handle_in, parameters_of,
};
use crate::support::{TestApp, run, with_settings};

/// A service of the operator's, beside this API.
const MCP: &str = "https://mcp.example.com";
const NONCE: &str = "n-0S6_WzA2Mj";
const JWKS: &str = "/.well-known/jwks.json";
const USERINFO: &str = "/oauth2/userinfo";
/// A private key for ES256, for `OIDC_PRIVATE_KEYS`:
/// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER | base64 -w0`.
const P256: &str = "x1:MHcCAQEEILO5D6BsRZQf9MY0fkKAYh9PcQoJ9cNp+g4Vpwqrz7+ooAoGCCqGSM49AwEHoU\
                    QDQgAEjm4ABedzjrYkhICyWVNRU/fPPi3l4vDQk8dG25uOIwpa+OaflIbj46ytxO7j/+v7\
                    QMt5o4ux2gqrIOmjhRtBQw==";
/// Counts sessions that are not revoked.
const SESSIONS: &str = "select count(*) from sessions where revoked_at is null";

/// An app of the account's organization, registered through the API.
async fn register(app: &TestApp, owner: &TestAccount) -> App {
    register_for(app, owner, IdTokenAlgorithm::Rs256).await
}

/// Like [`register`], with ID tokens signed with this algorithm.
async fn register_for(app: &TestApp, owner: &TestAccount, algorithm: IdTokenAlgorithm) -> App {
    let path = format!("/api/user/organizations/{}/apps", owner.org_id);
    let scopes = ["openid", "profile", "email", "projects:read", "user:read", "offline_access"];
    let request = json!({ "name": "Wiki", "redirectUris": [REDIRECT_URI], "scopes": scopes,
        "tokenEndpointAuthMethod": "client_secret_post",
        "idTokenSignedResponseAlg": algorithm.as_str() });
    let created = app.session(&owner.cookie).post(&path, request).await.assert_status(201).body;
    assert_eq!(created["data"]["scopes"], json!(scopes), "{created}");
    let client_id = created["data"]["clientId"].as_str().unwrap().to_owned();
    let secret = created["data"]["clientSecret"].as_str().unwrap().to_owned();
    (OauthClient { client_id, redirect_uri: REDIRECT_URI }, secret)
}

/// The tokens of an app that the person grants these scopes, in their own organization if one must
/// be chosen.
async fn sign_in(
    app: &TestApp,
    client: &App,
    person: &TestAccount,
    (scope, resource): (&str, &str),
) -> Value {
    let mut browser = Browser::signed_in(app, &person.cookie);
    let changes = [("scope", scope), ("nonce", NONCE), ("resource", resource)];
    let begun = browser.get(&client.0.path(&changes)).await.assert_status(303);
    let location = if begun.header("location").starts_with("/oauth2/consent?") {
        let mut answer = json!({ "request": handle_in(app, &begun), "accept": true });
        if scope.contains("projects") {
            answer["organizationId"] = json!(person.org_id);
        }
        let answered = browser.send_answer(answer).await.assert_status(200);
        answered.body["redirect"].as_str().unwrap().to_owned()
    } else {
        begun.header("location").to_owned()
    };
    let code = parameters_of(&location).remove("code").expect("a code");
    let code = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT_URI),
    ];
    exchange(app, client, &code).await.assert_status(200).body
}

/// An account, its app, and the tokens that the app got with these scopes.
async fn signed_in(app: &TestApp, scope: &str) -> (TestAccount, App, Value) {
    let ann = app.verified_account("ann@example.com").await;
    let client = register(app, &ann).await;
    let tokens = sign_in(app, &client, &ann, (scope, "")).await;
    (ann, client, tokens)
}

/// The claims of the ID token beside an access token, whose signature the published keys verify.
async fn verify(app: &TestApp, client: &App, tokens: &Value) -> Value {
    let token = tokens["id_token"].as_str().unwrap_or_else(|| panic!("no ID token: {tokens}"));
    let published = app.anonymous().get(JWKS).await.assert_status(200).body;
    let published: JwkSet = serde_json::from_value(published).unwrap();
    let header = decode_header(token).unwrap();
    let key = published.find(&header.kid.unwrap()).expect("a published key");
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[&client.0.client_id]);
    validation.set_issuer(&[ISSUER]);
    decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

/// The claim about an access token (`OpenID` Connect Core §3.1.3.6).
fn at_hash(tokens: &Value) -> String {
    let digest = Sha256::digest(tokens["access_token"].as_str().unwrap());
    BASE64_URL_SAFE_NO_PAD.encode(&digest[..16])
}

async fn get_userinfo(app: &TestApp, tokens: &Value) -> TestResponse {
    app.bearer(tokens["access_token"].as_str().unwrap()).get(USERINFO).await
}

/// When the account's session began, and its id.
async fn session_of(app: &TestApp, account: &TestAccount) -> (i64, String) {
    let listed = app.session(&account.cookie).get("/api/auth/list-sessions").await;
    let session = listed.assert_status(200).body["data"][0].clone();
    let began = "select floor(extract(epoch from created_at))::bigint from sessions
                 where revoked_at is null order by created_at desc limit 1";
    (app.count(began).await, session["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_id_token_states_who_signed_in_when_and_to_which_app_and_nothing_else() {
    run(async |app| {
        let scope = "openid profile email projects:read";
        let (ann, client, tokens) = signed_in(app, scope).await;
        assert_eq!(tokens["scope"], scope);
        let claims = verify(app, &client, &tokens).await;
        let (auth_time, sid) = session_of(app, &ann).await;
        let issued_at = app.clock.now().timestamp();
        let expected = json!({
            "iss": ISSUER, "sub": ann.id, "aud": client.0.client_id, "iat": issued_at,
            "exp": issued_at + 600, "auth_time": auth_time, "nonce": NONCE, "sid": sid,
            "at_hash": at_hash(&tokens), "amr": ["pwd"], "organization_id": ann.org_id,
        });
        assert_eq!(claims, expected);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_repeats_the_claims_of_the_sign_in_without_the_nonce_even_after_the_session() {
    run(async |app| {
        let scope = "openid projects:read offline_access";
        let (ann, client, tokens) = signed_in(app, scope).await;
        let first = verify(app, &client, &tokens).await;
        app.session(&ann.cookie).post("/api/auth/sign-out", json!({})).await.assert_status(200);
        assert_eq!(app.count(SESSIONS).await, 0);
        app.execute("delete from sessions").await;
        let tokens = refresh(app, &client, &tokens).await.assert_status(200).body;
        let second = verify(app, &client, &tokens).await;
        let mut expected = first.clone();
        expected.as_object_mut().unwrap().remove("nonce");
        expected["at_hash"] = json!(at_hash(&tokens));
        assert_ne!(expected["at_hash"], first["at_hash"]);
        assert_eq!(second, expected);
        // An access token without `openid` has no ID token beside it.
        let refresh_token = tokens["refresh_token"].as_str().unwrap();
        let narrowed = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("scope", "projects:read"),
        ];
        let narrowed = exchange(app, &client, &narrowed).await.assert_status(200).body;
        assert_eq!(narrowed["id_token"], Value::Null);
        get_userinfo(app, &narrowed).await.assert_status(403);
    })
    .await;
}

#[tokio::test]
async fn without_openid_there_is_no_id_token_and_userinfo_names_the_missing_scope() {
    run(async |app| {
        let (_, _, tokens) = signed_in(app, "profile email projects:read").await;
        assert_eq!(tokens["id_token"], Value::Null);
        let rejected = get_userinfo(app, &tokens).await.assert_status(403);
        assert_eq!(rejected.body["error"], "insufficient_scope");
        let challenge = rejected.header("www-authenticate");
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        assert!(
            challenge.ends_with(r#"error="insufficient_scope", scope="openid""#),
            "{challenge}"
        );
    })
    .await;
}

#[tokio::test]
async fn userinfo_shows_what_each_scope_allows() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        let updated = "select floor(extract(epoch from updated_at))::bigint from accounts";
        let updated_at = app.count(updated).await;
        let who = json!({ "sub": ann.id, "organization_id": ann.org_id,
                          "organization_role": "owner" });
        let name = json!({ "name": "Ann Example", "updated_at": updated_at });
        let email = json!({ "email": "ann@example.com", "email_verified": true });
        for (scope, parts) in [
            ("openid", vec![&who]),
            ("openid profile", vec![&who, &name]),
            ("openid email", vec![&who, &email]),
            ("openid profile email", vec![&who, &name, &email]),
        ] {
            let scope = format!("{scope} projects:read");
            let tokens = sign_in(app, &client, &ann, (&scope, "")).await;
            let mut expected = json!({});
            for part in parts {
                expected.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            }
            let shown = get_userinfo(app, &tokens).await.assert_status(200);
            assert_eq!(shown.body, expected, "{scope}");
            assert_eq!(shown.header("cache-control"), "no-store");
            let bearer = app.bearer(tokens["access_token"].as_str().unwrap());
            // A body is ignored.
            let posted = bearer.post_form(USERINFO, "access_token=x").await.assert_status(200);
            assert_eq!(posted.body, expected);
            bearer.send("POST", USERINFO, "").await.assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn no_id_token_is_issued_and_userinfo_is_rejected_for_a_suspended_organization() {
    run(async |app| {
        let vendor = app.verified_account("vendor@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &vendor).await;
        app.execute("update oauth_clients set visibility = 'public'").await;
        let scope = "openid projects:read offline_access";
        let tokens = sign_in(app, &client, &ann, (scope, "")).await;
        assert_eq!(get_userinfo(app, &tokens).await.body["organization_id"], ann.org_id);
        app.execute(
            "update organizations set suspended_at = now()
             where id in (select organization_id from oauth_grants)",
        )
        .await;
        get_userinfo(app, &tokens).await.assert_status(403);
        let refreshed = refresh(app, &client, &tokens).await.assert_status(200).body;
        assert!(refreshed.get("id_token").is_none(), "{refreshed}");
        app.execute("update organizations set suspended_at = null").await;
        let refreshed = refresh(app, &client, &refreshed).await.assert_status(200).body;
        assert_eq!(verify(app, &client, &refreshed).await["organization_id"], ann.org_id);
        get_userinfo(app, &refreshed).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn scopes_about_the_person_alone_need_no_organization() {
    run(async |app| {
        let scope = "openid profile email user:read";
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let page = browser.get(&client.0.path(&[("scope", scope)])).await.assert_status(303);
        let page = browser.get(page.header("location")).await.assert_status(200).text;
        assert!(!page.contains(r#"name="organizationId""#), "{page}");
        for sentence in ["Sign you in", "Read your name (", "Read your e-mail address ("] {
            let sentence = sentence.replace('(', r#"<span class="note">("#);
            assert!(page.contains(&sentence), "{sentence} is not in {page}");
        }
        let tokens = sign_in(app, &client, &ann, (scope, "")).await;
        assert_eq!(tokens["organization_id"], Value::Null);
        let claims = verify(app, &client, &tokens).await;
        assert_eq!(claims["organization_id"], Value::Null);
        let shown = get_userinfo(app, &tokens).await.assert_status(200).body;
        assert_eq!((&shown["sub"], &shown["organization_id"]), (&json!(ann.id), &Value::Null));
        app.bearer(tokens["access_token"].as_str().unwrap())
            .get("/api/user/me")
            .await
            .assert_status(200);
        // The access ends with the grant.
        let session = app.session(&ann.cookie);
        let listed = session.get("/api/user/authorized-apps").await.assert_status(200).body;
        assert_eq!(
            listed["data"][0]["effectiveScopes"],
            json!(scope.split(' ').collect::<Vec<_>>())
        );
        let grant = listed["data"][0]["id"].as_str().unwrap();
        session.delete(&format!("/api/user/authorized-apps/{grant}")).await.assert_status(200);
        let rejected = get_userinfo(app, &tokens).await.assert_status(401);
        assert_eq!(rejected.body["error"], "invalid_token");
    })
    .await;
}

#[tokio::test]
async fn userinfo_rejects_every_other_credential_and_tokens_for_other_services() {
    with_settings(&[("OAUTH_RESOURCES", MCP)])
        .run(async |app| {
            let scope = "openid projects:read offline_access";
            let (ann, client, tokens) = signed_in(app, scope).await;
            let acme = app.sign_up().await;
            let (pat, _) =
                app.create_token(&ann.cookie, json!({ "name": "script", "scopes": ["*"] })).await;
            let for_mcp = sign_in(app, &client, &ann, (scope, MCP)).await;
            let token = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
            let access_token = token(&tokens, "access_token");
            let (key_token, _) = app.exchange(&acme.api_key).await;
            let clients = [
                app.anonymous(),
                app.bearer(&acme.api_key),
                app.key(&acme.api_key),
                app.bearer(&key_token),
                app.bearer(&pat),
                app.bearer(&ann.token),
                app.session(&ann.cookie),
                app.bearer(&token(&tokens, "id_token")),
                app.bearer(&token(&tokens, "refresh_token")),
                app.bearer(&token(&for_mcp, "access_token")),
                app.key(&access_token),
                app.bearer("tnt_oauth_unknown"),
            ];
            for (number, client) in clients.iter().enumerate() {
                for method in ["GET", "POST"] {
                    let rejected = client.send(method, USERINFO, "").await.assert_status(401);
                    assert_eq!(rejected.body["error"], "invalid_token", "{method} {number}");
                    let challenge = rejected.header("www-authenticate");
                    assert!(challenge.starts_with("Bearer "), "{challenge}");
                    // Without a credential, no error code (RFC 6750 §3.1).
                    let is_anonymous = number == 0 || number == 6;
                    assert_eq!(!challenge.contains("error="), is_anonymous, "{number} {challenge}");
                }
            }
            let form = format!("access_token={access_token}");
            app.anonymous().post_form(USERINFO, &form).await.assert_status(401);
            let query = format!("{USERINFO}?access_token={access_token}");
            app.anonymous().get(&query).await.assert_status(401);
            app.bearer(&access_token).get(USERINFO).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn an_id_token_is_no_credential_and_inactive_at_introspection() {
    run(async |app| {
        let (_, client, tokens) = signed_in(app, "openid projects:read").await;
        let id_token = tokens["id_token"].as_str().unwrap();
        for path in ["/me", "/api/user/me", "/v1/organization/me", "/auth/verify"] {
            app.bearer(id_token).get(path).await.assert_status(401);
        }
        let form = format!("token={id_token}&token_type_hint=id_token");
        let introspected = app.verifier().post_form("/oauth2/introspect", &form).await;
        assert_eq!(introspected.assert_status(200).body, json!({ "active": false }));
        let as_code =
            [("grant_type", "authorization_code"), ("code", id_token), ("code_verifier", VERIFIER)];
        exchange(app, &client, &as_code).await.assert_status(400);
    })
    .await;
}

#[tokio::test]
async fn the_newest_key_signs_and_all_configured_keys_verify() {
    run(async |app| {
        let (ann, client, tokens) = signed_in(app, "openid projects:read").await;
        let kid = |tokens: &Value| {
            decode_header(tokens["id_token"].as_str().unwrap()).unwrap().kid.unwrap()
        };
        assert_eq!(kid(&tokens), "o1");
        let (first, second) = OPENID_KEYS.trim().split_once(",\n").unwrap();
        let rotated = format!("{second},{first}");
        let later = app.replica_with(&[("OIDC_PRIVATE_KEYS", &rotated)]);
        verify(&later, &client, &tokens).await;
        let new_tokens = sign_in(&later, &client, &ann, ("openid projects:read", "")).await;
        assert_eq!(kid(&new_tokens), "o2");
        verify(&later, &client, &new_tokens).await;
        verify(app, &client, &new_tokens).await;
        let last = app.replica_with(&[("OIDC_PRIVATE_KEYS", second)]);
        let published = last.anonymous().get(JWKS).await.assert_status(200);
        assert_eq!(published.header("cache-control"), "public, max-age=300");
        let keys = published.body["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1);
        let mut members: Vec<_> = keys[0].as_object().unwrap().keys().collect();
        members.sort();
        // No private member.
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
        let [later, last] = [later, last];
        later.close();
        last.close();
    })
    .await;
}

#[tokio::test]
async fn id_tokens_are_signed_with_es256_for_apps_that_want_it_if_there_is_a_key() {
    let keys = format!("{},{P256}", OPENID_KEYS.trim());
    let algorithm =
        |tokens: &Value| decode_header(tokens["id_token"].as_str().unwrap()).unwrap().alg;
    with_settings(&[("OIDC_PRIVATE_KEYS", &keys)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = register_for(app, &ann, IdTokenAlgorithm::Es256).await;
            let tokens = sign_in(app, &client, &ann, ("openid email", "")).await;
            assert_eq!(algorithm(&tokens), Algorithm::ES256);
            let claims = verify(app, &client, &tokens).await;
            assert_eq!(claims["at_hash"], at_hash(&tokens));
            let path = "/.well-known/openid-configuration";
            let shown = app.anonymous().get(path).await.assert_status(200).body;
            assert_eq!(shown["id_token_signing_alg_values_supported"], json!(["RS256", "ES256"]));
            // A server without such a key signs with RS256.
            let other = app.replica_with(&[("OIDC_PRIVATE_KEYS", OPENID_KEYS)]);
            let tokens = sign_in(&other, &client, &ann, ("openid email", "")).await;
            assert_eq!(algorithm(&tokens), Algorithm::RS256);
            let request = json!({ "idTokenSignedResponseAlg": "ES256" });
            let id = &client.0.client_id;
            let path = format!("/api/user/organizations/{}/apps/{id}", ann.org_id);
            let rejected = other.session(&ann.cookie).put(&path, request).await;
            let fields = rejected.assert_status(400);
            assert_eq!(fields.invalid_fields(), ["idTokenSignedResponseAlg"]);
            other.close();
        })
        .await;
}

#[tokio::test]
async fn the_provider_describes_itself_while_oauth_is_on() {
    run(async |app| {
        let path = "/.well-known/openid-configuration";
        let shown = app.anonymous().get(path).await.assert_status(200);
        assert_eq!(shown.header("cache-control"), "public, max-age=300");
        let same = app.anonymous().get("/.well-known/oauth-authorization-server").await;
        assert_eq!(shown.body, same.assert_status(200).body);
        let expected = json!({
            "issuer": ISSUER,
            "userinfo_endpoint": format!("{ISSUER}/oauth2/userinfo"),
            "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_parameter_supported": false,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(shown.body[name], *value, "{name}");
        }
        let scopes = shown.body["scopes_supported"].as_array().unwrap();
        for scope in ["openid", "profile", "email", "projects:read", "offline_access"] {
            assert!(scopes.contains(&json!(scope)), "{scope}");
        }
        let off = app.replica_with(&[("OAUTH", "off")]);
        off.anonymous().get(path).await.assert_status(404);
        off.anonymous().get(USERINFO).await.assert_status(404);
        let published = off.anonymous().get(JWKS).await.assert_status(200).body;
        assert_eq!(published, json!({ "keys": [] }));
        off.close();
    })
    .await;
}

#[tokio::test]
async fn an_account_that_left_the_organization_of_a_private_app_gets_no_more_tokens() {
    run(async |app| {
        let owner = app.verified_account("owner@example.com").await;
        let ann = app.verified_account("ann@example.com").await;
        let membership = app.invite_and_accept(&owner, &ann, "member").await;
        let client = register(app, &owner).await;
        let tokens = sign_in(app, &client, &ann, ("openid offline_access", "")).await;
        let tokens = refresh(app, &client, &tokens).await.assert_status(200).body;
        let member = format!("/api/user/organizations/{}/members/{membership}", owner.org_id);
        app.session(&owner.cookie).delete(&member).await.assert_status(200);
        let rejected = refresh(app, &client, &tokens).await.assert_status(400);
        assert_eq!(rejected.body["error"], "invalid_grant");
    })
    .await;
}
