//! `POST /v1/admin/org/create`

use serde_json::{Value, json};

use super::{create_request, create_request_with, provision};
use crate::support::app::{COUNT_ORGANIZATIONS, text};
use crate::support::{run, with_settings};

#[tokio::test]
async fn the_operator_gets_an_organization_and_its_first_key() {
    run(async |app| {
        let response = provision(app, "evt_1", create_request()).await.assert_status(201);
        let key = text(&response.body["api_key"]);
        assert_eq!(key[9..17], text(&response.body["prefix"]));
        insta::assert_json_snapshot!(response.body);
        let me = app.key(&key).get("/me").await.assert_status(200);
        assert_eq!(me.body["org_id"], "org_acme_2026_example");
        assert_eq!(me.body["api_keys"][0]["scopes"], json!(["*"]));
        let identity = app.key(&key).get("/v1/organization/me").await.assert_status(200);
        assert_eq!(identity.body["org_name"], "Acme Corp");
        assert_eq!(identity.body["plan"], "starter");
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_response_without_the_key_for_thirty_days() {
    run(async |app| {
        let first = provision(app, "evt_1", create_request()).await.assert_status(201);
        app.clock.advance(chrono::TimeDelta::days(29));
        let again = provision(app, "evt_1", create_request()).await.assert_status(201);
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(again.body["already_provisioned"], true);
        assert!(again.body.get("api_key").is_none());
        for same in ["org_id", "prefix", "created_at", "warning"] {
            assert_eq!(again.body[same], first.body[same], "{same}");
        }
        assert_ne!(again.body["request_id"], first.body["request_id"]);
        assert_ne!(again.body["timestamp"], first.body["timestamp"]);
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        let stored = "select count(*) from idempotency_keys
                    where expires_at = created_at + interval '30 days'";
        assert_eq!(app.count(stored).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_is_recognized_after_the_secret_was_replaced() {
    let create = "MASTER_ADMIN_KEY_ORG_CREATE";
    let (old, new) = ("old-of-ORG_CREATE-0123456789abcdef", "new-of-ORG_CREATE-0123456789abcdef");
    with_settings(&[(create, &format!("{new},{old}"))])
        .run(async |app| {
            let ask = async |secret: &str| {
                let operator = app.key(secret).with("idempotency-key", "evt_1");
                operator.post("/v1/admin/org/create", create_request()).await.assert_status(201)
            };
            assert_eq!(ask(old).await.header("idempotent-replayed"), "");
            assert_eq!(ask(new).await.header("idempotent-replayed"), "true");
        })
        .await;
}

#[tokio::test]
async fn an_idempotency_key_is_rejected_with_another_request_and_accepted_on_another_route() {
    run(async |app| {
        provision(app, "evt_1", create_request()).await.assert_status(201);
        let other = provision(app, "evt_1", create_request_with("tier", "pro")).await;
        let other = other.assert_error(422, "idempotency_key_reused");
        assert_eq!(other.body["error"], "IDEMPOTENCY_KEY_REUSED");
        let other = provision(app, "evt_1", create_request_with("org_id", "other")).await;
        other.assert_error(422, "idempotency_key_reused");
        let plan = "/v1/admin/billing/org/org_acme_2026_example/plan";
        let operator = app.master_with_idempotency_key("BILLING_PLAN", "evt_1");
        operator.post(plan, json!({ "tier": "pro" })).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_existing_id_is_a_conflict_in_any_case_and_remains_one_after_deletion() {
    run(async |app| {
        provision(app, "evt_1", create_request()).await.assert_status(201);
        for (name, id) in [("a", "org_acme_2026_example"), ("b", "ORG_ACME_2026_example")] {
            provision(app, name, create_request_with("org_id", id))
                .await
                .assert_error(409, "conflict");
        }
        app.execute("update organizations set deleted_at = now() where handle like 'org_acme%'")
            .await;
        provision(app, "c", create_request()).await.assert_error(409, "conflict");
        // A rejected request does not use up its idempotency key.
        provision(app, "a", create_request_with("org_id", "other")).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn twenty_concurrent_workers_create_one_organization_and_get_one_key() {
    run(async |app| {
        let requests = (0..20).map(|_| async {
            let operator = app.master_with_idempotency_key("ORG_CREATE", "evt_1");
            operator.post("/v1/admin/org/create", create_request()).await
        });
        let responses = futures_util::future::join_all(requests).await;
        let with_key = responses.iter().filter(|it| it.body.get("api_key").is_some()).count();
        assert_eq!(with_key, 1);
        for response in responses {
            match response.status.as_u16() {
                201 => {}
                409 => assert!(!response.header("retry-after").is_empty()),
                _ => panic!("{}", response.text),
            }
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        assert_eq!(app.count("select count(*) from api_keys").await, 1);
    })
    .await;
}

#[tokio::test]
async fn without_a_valid_idempotency_key_the_request_is_malformed() {
    run(async |app| {
        let operator = app.master("ORG_CREATE");
        let unnamed = operator.post("/v1/admin/org/create", create_request()).await;
        let unnamed = unnamed.assert_error(400, "malformed");
        assert_eq!(unnamed.body["error"], "VALIDATION_FAILED");
        assert_eq!(unnamed.body["field"], "Idempotency-Key");
        for name in ["", &"x".repeat(257), "é"] {
            let response =
                provision(app, name, create_request()).await.assert_error(400, "malformed");
            assert_eq!(response.invalid_fields(), ["Idempotency-Key"], "{name:?}");
        }
        let twice = app.master_with_idempotency_key("ORG_CREATE", "a").with("idempotency-key", "b");
        twice.post("/v1/admin/org/create", create_request()).await.assert_error(400, "malformed");
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_is_named_with_its_allowed_values() {
    run(async |app| {
        let all = json!({ "org_id": "a b", "name": "", "domain": "gaming", "tier": "gold" });
        let response = provision(app, "a", all).await.assert_error(422, "validation_error");
        let fields = ["org_id", "name", "domain", "tier", "allowed_origins"];
        assert_eq!(response.invalid_fields(), fields);
        assert_eq!(response.body["field"], "org_id");
        let tier =
            provision(app, "a", create_request_with("tier", "gold")).await.assert_status(422);
        insta::assert_json_snapshot!(tier.body_without_request());
        let domain = provision(app, "a", create_request_with("domain", 7)).await.assert_status(422);
        assert_eq!(domain.body["field"], "domain");
        assert_eq!(domain.body["allowed_values"].as_array().unwrap().len(), 8);
        for reserved in ["admin", "SYSTEM", "well-known"] {
            let response = provision(app, "a", create_request_with("org_id", reserved)).await;
            assert_eq!(response.assert_status(422).invalid_fields(), ["org_id"]);
        }
        for (field, long) in [("org_id", 65), ("name", 129)] {
            let response = provision(app, "a", create_request_with(field, "x".repeat(long))).await;
            assert_eq!(response.assert_status(422).invalid_fields(), [field]);
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn allowed_origins_are_one_to_fifty_exact_origins() {
    run(async |app| {
        let many = |count: usize| {
            let origins: Vec<_> = (0..count).map(|it| format!("https://a{it}.example")).collect();
            origins.join(",")
        };
        for wrong in [
            Value::Null,
            json!(""),
            json!(["https://acme.example.com"]),
            json!("https://acme.example.com/path"),
            json!("https://acme.example.com/"),
            json!("https://*.example.com"),
            json!("*"),
            json!("null"),
            json!("https://acme.example.com,"),
            json!("http://acme.example.com"),
            json!("https://user@acme.example.com"),
            json!(many(51)),
            json!(many(1_000)),
        ] {
            let response =
                provision(app, "a", create_request_with("allowed_origins", wrong.clone())).await;
            assert_eq!(
                response.assert_status(422).invalid_fields(),
                ["allowed_origins"],
                "{wrong}"
            );
        }
        let mut without = create_request();
        without.as_object_mut().unwrap().remove("allowed_origins");
        let response = provision(app, "a", without).await.assert_status(422);
        assert_eq!(response.invalid_fields(), ["allowed_origins"]);
        provision(app, "a", create_request_with("allowed_origins", many(50)))
            .await
            .assert_status(201);
        let local = "https://ACME.example.com:443, http://localhost:5173,https://acme.example.com";
        let request = json!({ "org_id": "local", "name": "L", "domain": "general",
                              "tier": "trial", "allowed_origins": local });
        provision(app, "b", request).await.assert_status(201);
        let listed: Vec<String> =
            sqlx::query_scalar("select allowed_origins from organizations where handle = 'local'")
                .fetch_one(&mut app.connect().await)
                .await
                .unwrap();
        assert_eq!(listed, ["https://acme.example.com", "http://localhost:5173"]);
    })
    .await;
}

#[tokio::test]
async fn the_creation_is_in_the_organization_s_audit_log() {
    run(async |app| {
        let key = text(
            &provision(app, "evt_1", create_request()).await.assert_status(201).body["api_key"],
        );
        let audit = app.key(&key).get("/v1/admin/audit-log").await.assert_status(200);
        let types = audit.body["events"].as_array().unwrap().iter();
        let types: Vec<_> = types.map(|it| it["event_type"].as_str().unwrap()).collect();
        assert_eq!(types, ["api_key.created", "organization.provisioned"]);
    })
    .await;
}

#[tokio::test]
async fn the_owner_s_membership_is_claimed_by_an_account_invited_as_owner() {
    run(async |app| {
        let key = text(
            &provision(app, "evt_1", create_request()).await.assert_status(201).body["api_key"],
        );
        let ann = app.verified_account("ann@example.com").await;
        let organization = "/api/user/organizations/org_acme_2026_example";
        let request = json!({ "email": ann.email, "role": "owner" });
        let invites = format!("{organization}/invites");
        app.key(&key).post(&invites, request).await.assert_status(201);
        let accept = format!("/api/user/invites/{}/accept", app.mailed_token().await);
        app.session(&ann.cookie).post(&accept, json!({})).await.assert_status(200);
        let own = app.session(&ann.cookie).get(&format!("{organization}/my-membership")).await;
        assert_eq!(own.assert_status(200).body["data"]["role"], "owner");
        let memberships =
            "select count(*) from users u join organizations o on o.id = u.organization_id
                     where o.handle = 'org_acme_2026_example'";
        assert_eq!(app.count(memberships).await, 1);
    })
    .await;
}
