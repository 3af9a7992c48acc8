//! `/auth/token-exchange`, `/auth/refresh`, `/auth/verify`

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run, with_settings};

async fn refresh(app: &TestApp, token: &str) -> TestResponse {
    app.anonymous().post("/auth/refresh", json!({ "refresh_token": token })).await
}

#[tokio::test]
async fn a_key_is_exchanged_for_tokens_that_expire_after_fifteen_minutes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let body = json!({ "api_key": acme.api_key });
        let response = app.anonymous().post("/auth/token-exchange", body).await.assert_status(200);
        assert_eq!(response.body["token_type"], "bearer");
        assert_eq!(response.body["expires_in"], 900);
        let token = text(&response.body["access_token"]);
        let verified = app.bearer(&token).get("/auth/verify").await.assert_status(200).body;
        assert_eq!(verified["valid"], true);
        assert_eq!(verified["tenant"]["org_id"], acme.org_id);
        assert_eq!(verified["tenant"]["user_id"], acme.user_id);
        assert!(text(&verified["tenant"]["session_id"]).starts_with("sess_"));

        app.clock.advance(TimeDelta::seconds(899));
        app.bearer(&token).get("/me").await.assert_status(200);
        app.clock.advance(TimeDelta::seconds(1));
        app.bearer(&token).get("/me").await.assert_error(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn a_key_itself_is_verified_without_a_session() {
    run(async |app| {
        let acme = app.sign_up().await;
        for client in [app.key(&acme.api_key), app.bearer(&acme.api_key)] {
            let response = client.get("/auth/verify").await.assert_status(200);
            assert_eq!(response.body["tenant"]["session_id"], Value::Null);
        }
    })
    .await;
}

#[tokio::test]
async fn an_invalid_key_is_not_exchanged() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({})).await;
        app.key(&acme.api_key).delete(&format!("/me/api-keys/{}", ci.key_id)).await;
        for key in ["garbage", "", ci.api_key.as_str()] {
            let response =
                app.anonymous().post("/auth/token-exchange", json!({ "api_key": key })).await;
            response.assert_error(401, "unauthorized");
        }
    })
    .await;
}

#[tokio::test]
async fn the_token_routes_name_missing_fields() {
    run(async |app| {
        for (path, field) in
            [("/auth/token-exchange", "api_key"), ("/auth/refresh", "refresh_token")]
        {
            for body in [json!({}), json!({ field: 1 }), json!({ field: null })] {
                let response =
                    app.anonymous().post(path, body).await.assert_error(422, "validation_error");
                assert_eq!(response.invalid_fields(), [field]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_gives_the_next_pair_of_the_same_session() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (access, first) = app.exchange(&acme.api_key).await;
        let response = refresh(app, &first).await.assert_status(200);
        let (next, second) =
            (text(&response.body["access_token"]), text(&response.body["refresh_token"]));
        assert_ne!(first, second);
        let session = async |token: &str| {
            let body = app.bearer(token).get("/auth/verify").await.assert_status(200).body;
            text(&body["tenant"]["session_id"])
        };
        assert_eq!(session(&access).await, session(&next).await);
        refresh(app, &second).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_reused_refresh_token_ends_the_session_for_all_its_tokens() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (access, first) = app.exchange(&acme.api_key).await;
        let response = refresh(app, &first).await.assert_status(200);
        let (next, second) =
            (text(&response.body["access_token"]), text(&response.body["refresh_token"]));
        refresh(app, &first).await.assert_error(401, "unauthorized");
        for token in [&access, &next] {
            app.bearer(token).get("/me").await.assert_error(401, "unauthorized");
        }
        refresh(app, &second).await.assert_error(401, "unauthorized");
        // The key itself stays valid, and one audit event records the reuse.
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        let events =
            "select count(*) from audit_events where event_type = 'session.revoked_by_reuse'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_most_one_of_20_concurrent_uses_of_one_refresh_token_succeeds() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (_, token) = app.exchange(&acme.api_key).await;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (anon, body) = (app.anonymous(), json!({ "refresh_token": token }));
            attempts.spawn(async move { anon.post("/auth/refresh", body).await.status.as_u16() });
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 19);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_expires_after_seven_days() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (_, token) = app.exchange(&acme.api_key).await;
        let week: bool = sqlx::query_scalar(
            "select expires_at = created_at + interval '7 days' from refresh_tokens",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        assert!(week);
        app.execute("update refresh_tokens set expires_at = now()").await;
        refresh(app, &token).await.assert_error(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn tokens_end_with_their_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({})).await;
        let (access, token) = app.exchange(&ci.api_key).await;
        app.bearer(&access).get("/me").await.assert_status(200);
        let path = format!("/me/api-keys/{}", ci.key_id);
        app.key(&acme.api_key).delete(&path).await.assert_status(204);
        app.bearer(&access).get("/me").await.assert_error(401, "unauthorized");
        refresh(app, &token).await.assert_error(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_token_or_a_key_is_no_refresh_token() {
    run(async |app| {
        let acme = app.sign_up().await;
        for token in ["", "garbage", "tnt_refresh_", acme.api_key.as_str()] {
            refresh(app, token).await.assert_error(401, "unauthorized");
        }
    })
    .await;
}

#[tokio::test]
async fn only_sessions_that_can_no_longer_be_used_are_swept() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (_, over) = app.exchange(&acme.api_key).await;
        refresh(app, &over).await.assert_status(200);
        app.execute("update refresh_tokens set expires_at = now()").await;
        let (_, good) = app.exchange(&acme.api_key).await;
        let sweep =
            async |tx: &mut sqlx::PgConnection| tenantry::repo::key_sessions::sweep(tx).await;
        assert_eq!(app.app.db.transaction(sweep).await.unwrap(), 2);
        assert_eq!(app.app.db.transaction(sweep).await.unwrap(), 0);
        assert_eq!(app.count("select count(*) from refresh_tokens").await, 1);
        assert_eq!(app.count("select count(*) from key_sessions").await, 1);
        refresh(app, &good).await.assert_status(200);
    })
    .await;
}

/// The token with its header or its claims replaced.
fn forge(token: &str, header: Option<Value>, claims: Option<Value>) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    for (at, replaced) in [header, claims].into_iter().enumerate() {
        if let Some(value) = replaced {
            parts[at] = BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        }
    }
    parts.join(".")
}

/// A token with these claims, signed with the newest secret.
fn sign(claims: &Value) -> String {
    sign_with(&json!({ "typ": "JWT", "alg": "HS256", "kid": "j2" }), claims)
}

/// A token with this header and these claims, signed with the newest secret.
fn sign_with(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"ABCDEFGHIJABCDEFGHIJABCDEFGHIJAB").unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn a_forged_or_altered_token_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        let claims = claims_of(&token);
        app.bearer(&sign(&claims)).get("/me").await.assert_status(200);

        let none = json!({ "alg": "none", "typ": "JWT", "kid": "j2" });
        let other = json!({ "alg": "HS512", "typ": "JWT", "kid": "j2" });
        let stranger = json!({ "alg": "HS256", "typ": "JWT", "kid": "j9" });
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = [
            format!("{signed}."),
            forge(&format!("{signed}."), Some(none), None),
            forge(&token, Some(other), None),
            forge(&token, Some(stranger), None),
            forge(&token, None, Some(json!({ "sub": "user_root" }))),
            format!("{token}.{token}"),
            "a.b.c".to_owned(),
            "..".to_owned(),
            format!("{token}{}", "x".repeat(8000)),
        ];
        for token in forged {
            app.bearer(&token).get("/me").await.assert_error(401, "unauthorized");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_with_a_missing_or_wrongly_typed_claim_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        let good = claims_of(&token);
        let wrong = [
            ("exp", json!("4102444800")),
            ("exp", json!(4_102_444_800.5)),
            ("exp", Value::Null),
            ("iat", json!("now")),
            ("iss", json!("http://elsewhere")),
            ("aud", json!("another")),
            ("sid", json!("key_0000000000000000000000")),
            ("sid", json!(["sess_0000000000000000000000"])),
        ];
        for (name, value) in wrong {
            let mut claims = good.clone();
            claims[name] = value;
            app.bearer(&sign(&claims)).get("/me").await.assert_error(401, "unauthorized");
        }
        for name in ["exp", "iss", "aud", "sub", "sid", "iat"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(name);
            app.bearer(&sign(&claims)).get("/me").await.assert_error(401, "unauthorized");
        }
    })
    .await;
}

/// Header parameters that are not understood must not be ignored (RFC 7515 §4.1.11).
#[tokio::test]
async fn a_token_with_additional_header_parameters_is_rejected_even_if_correctly_signed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        let claims = claims_of(&token);
        let good = json!({ "typ": "JWT", "alg": "HS256", "kid": "j2" });
        app.bearer(&sign_with(&good, &claims)).get("/me").await.assert_status(200);
        let more = [
            ("crit", json!(["exp"])),
            ("crit", json!(["unheard-of"])),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("b64", json!(true)),
            ("zip", json!("DEF")),
            ("enc", json!("A128GCM")),
            ("jwk", json!({ "kty": "oct", "k": "AA" })),
            ("jku", json!("https://evil.example/jwks.json")),
            ("x5u", json!("https://evil.example/cert.pem")),
            ("cty", json!("JWT")),
            ("unheard-of", json!(1)),
        ];
        for (name, value) in more {
            let mut header = good.clone();
            header[name] = value;
            let response = app.bearer(&sign_with(&header, &claims)).get("/me").await;
            assert_eq!(response.status, 401, "{header}");
        }
        for typ in
            [json!("at+jwt"), json!("dpop+jwt"), json!("JWE"), json!(""), json!(1), json!(null)]
        {
            let mut header = good.clone();
            header["typ"] = typ;
            let response = app.bearer(&sign_with(&header, &claims)).get("/me").await;
            assert_eq!(response.status, 401, "{header}");
        }
        for name in ["typ", "alg", "kid"] {
            let mut header = good.clone();
            header.as_object_mut().unwrap().remove(name);
            let response = app.bearer(&sign_with(&header, &claims)).get("/me").await;
            assert_eq!(response.status, 401, "{header}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_rejected_before_its_validity_begins() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        let good = claims_of(&token);
        let now = good["iat"].as_i64().unwrap();
        let status = async |nbf: Value| {
            let mut claims = good.clone();
            claims["nbf"] = nbf;
            app.bearer(&sign(&claims)).get("/me").await.status.as_u16()
        };
        assert_eq!(status(json!(now)).await, 200);
        assert_eq!(status(json!(now - 60)).await, 200);
        for nbf in [json!(now + 1), json!(now + 600), json!("soon"), json!(null), json!(1.5)] {
            assert_eq!(status(nbf.clone()).await, 401, "{nbf}");
        }
        app.clock.advance(TimeDelta::seconds(1));
        assert_eq!(status(json!(now + 1)).await, 200);
    })
    .await;
}

#[tokio::test]
async fn the_lifetime_of_exchanged_tokens_is_configurable() {
    with_settings(&[("ACCESS_TOKEN_MINUTES", "1440")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let body = json!({ "api_key": acme.api_key });
            let response =
                app.anonymous().post("/auth/token-exchange", body).await.assert_status(200);
            assert_eq!(response.body["expires_in"], 24 * 60 * 60);
            let next =
                refresh(app, &text(&response.body["refresh_token"])).await.assert_status(200);
            assert_eq!(next.body["expires_in"], 24 * 60 * 60);
            let token = text(&response.body["access_token"]);
            app.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
            app.bearer(&token).get("/me").await.assert_status(200);
            app.clock.advance(TimeDelta::seconds(1));
            app.bearer(&token).get("/me").await.assert_error(401, "unauthorized");
        })
        .await;
}
