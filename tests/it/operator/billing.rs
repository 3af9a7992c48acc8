//! `POST /v1/admin/billing/org/{id}/suspend`, `/rotate` and `/plan`

use serde_json::{Value, json};

use crate::support::app::text;
use crate::support::{TestApp, run, with_settings};

async fn post_billing(
    app: &TestApp,
    scope: &str,
    (id, what): (&str, &str),
    name: &str,
    body: Value,
) -> crate::support::client::TestResponse {
    let path = format!("/v1/admin/billing/org/{id}/{what}");
    app.master_with_idempotency_key(scope, name).post(&path, body).await
}

#[tokio::test]
async fn an_unpaid_organization_is_suspended_and_gets_a_new_key_after_payment() {
    run(async |app| {
        let acme = app.sign_up().await;
        let id = acme.org_id.as_str();
        let off = post_billing(app, "BILLING_SUSPEND", (id, "suspend"), "evt_1", json!({})).await;
        assert_eq!(off.assert_status(200).body["suspended"], true);
        app.key(&acme.api_key).get("/me").await.assert_error(403, "organization_suspended");
        let on = post_billing(app, "BILLING_ROTATE", (id, "rotate"), "evt_2", json!({})).await;
        let on = on.assert_status(200);
        assert_eq!(on.body["rotated"], true);
        app.key(&acme.api_key).get("/me").await.assert_error(401, "unauthorized");
        app.key(&text(&on.body["new_api_key"])).get("/me").await.assert_status(200);
        let extra = json!({ "confirm_org_id": id });
        let extra = post_billing(app, "BILLING_SUSPEND", (id, "suspend"), "evt_3", extra).await;
        assert_eq!(extra.assert_status(422).invalid_fields(), ["confirm_org_id"]);
    })
    .await;
}

#[tokio::test]
async fn a_key_rotation_for_billing_does_not_lift_a_suspension_by_support() {
    run(async |app| {
        for by_billing_first in [false, true] {
            let acme = app.sign_up().await;
            let id = acme.org_id.as_str();
            let name = |what: &str| format!("{what} {by_billing_first}");
            if by_billing_first {
                let name = name("off");
                let off =
                    post_billing(app, "BILLING_SUSPEND", (id, "suspend"), &name, json!({})).await;
                off.assert_status(200);
            }
            let off =
                super::send_confirmed(app, "ORG_SUSPEND", id, "suspend", &name("support")).await;
            off.assert_status(200);
            let rotated =
                post_billing(app, "BILLING_ROTATE", (id, "rotate"), &name("on"), json!({})).await;
            let key = text(&rotated.assert_status(200).body["new_api_key"]);
            app.key(&acme.api_key).get("/me").await.assert_error(401, "unauthorized");
            app.key(&key).get("/me").await.assert_error(403, "organization_suspended");
            let on =
                super::send_confirmed(app, "ORG_SUSPEND", id, "reactivate", &name("back")).await;
            on.assert_status(200);
            app.key(&key).get("/me").await.assert_status(200);
        }
        let lifted = "select count(*) from audit_events
                      where event_type = 'organization.reactivated'
                        and actor = 'master:BILLING_ROTATE'";
        assert_eq!(app.count(lifted).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_key_rotation_for_billing_lifts_a_suspension_by_stripe() {
    run(async |app| {
        let bought = crate::support::stripe::checkout("evt_1", "acme", "starter");
        app.send_stripe_event(&bought).await.assert_status(200);
        let failed = crate::support::stripe::invoice_payment_failed("evt_2", "acme");
        let failed = app.send_stripe_event(&failed).await.assert_status(200);
        assert_eq!(failed.body["effect"], "suspended");
        let rotated =
            post_billing(app, "BILLING_ROTATE", ("acme", "rotate"), "evt_3", json!({})).await;
        let key = text(&rotated.assert_status(200).body["new_api_key"]);
        app.key(&key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn another_plan_s_limits_apply_from_the_next_request_on() {
    run(async |app| {
        let acme = app.sign_up().await;
        let id = acme.org_id.as_str();
        let limit = async || {
            let usage = app.key(&acme.api_key).get("/v1/organization/usage").await;
            usage.assert_status(200).body["requests"]["limit"].clone()
        };
        assert_eq!(limit().await, 100_000);
        let moved =
            post_billing(app, "BILLING_PLAN", (id, "plan"), "evt_1", json!({ "tier": "scale" }));
        let moved = moved.await.assert_status(200);
        assert_eq!(
            (&moved.body["tier"], &moved.body["previous_tier"]),
            (&json!("scale"), &json!("trial"))
        );
        assert_eq!(limit().await, 100_000_000);
        post_billing(app, "BILLING_PLAN", (id, "plan"), "evt_2", json!({ "tier": "enterprise" }))
            .await
            .assert_status(200);
        assert_eq!(limit().await, Value::Null);
        let wrong =
            post_billing(app, "BILLING_PLAN", (id, "plan"), "evt_3", json!({ "tier": "gold" }));
        let wrong = wrong.await.assert_error(422, "validation_error");
        assert_eq!(wrong.body["allowed_values"].as_array().unwrap().len(), 6);
    })
    .await;
}

#[tokio::test]
async fn a_home_organization_cannot_have_the_standard_or_enterprise_plan() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let id = ann.org_id.as_str();
        for tier in ["standard", "enterprise"] {
            let response =
                post_billing(app, "BILLING_PLAN", (id, "plan"), tier, json!({ "tier": tier }));
            let response = response.await.assert_error(422, "validation_error");
            assert_eq!(response.body["field"], "tier");
            let allowed = json!(["trial", "starter", "pro", "scale"]);
            assert_eq!(response.body["allowed_values"], allowed);
        }
        let pro =
            post_billing(app, "BILLING_PLAN", (id, "plan"), "evt", json!({ "tier": "pro" })).await;
        pro.assert_status(200);
        let me = app.bearer(&ann.token).get("/auth/me").await.assert_status(200);
        assert_eq!(me.body["data"]["plan"], "pro");
    })
    .await;
}

#[tokio::test]
async fn the_operator_s_table_of_plans_replaces_the_default_limits() {
    with_settings(&[("PLANS", r#"{"trial":{"requests_per_month":null,"projects":1}}"#)])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let usage = format!("/api/user/organizations/{}/usage", ann.org_id);
            let usage = app.session(&ann.cookie).get(&usage).await.assert_status(200);
            assert_eq!(usage.body["data"]["requests"]["limit"], Value::Null);
            app.create_project(&ann, "one").await;
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            let second = app.session(&ann.cookie).post(&projects, json!({ "name": "two" })).await;
            second.assert_error(403, "PLAN_LIMIT_REACHED");
        })
        .await;
}
