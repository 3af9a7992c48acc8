//! `GET /v1/admin/org/{id}/usage`

use serde_json::{Value, json};

use super::send_confirmed;
use crate::support::with_settings;

#[tokio::test]
async fn the_operator_sees_how_much_of_the_plan_is_used_and_which_threshold_was_crossed() {
    with_settings(&[("PLANS", r#"{"trial":{"requests_per_month":10}}"#)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let path = format!("/v1/admin/org/{}/usage", acme.org_id);
            let usage = async || app.master("ORG_USAGE").get(&path).await.assert_status(200).body;
            let mut used = 0;
            for (until, ratio, threshold) in [
                (0, 0.0, Value::Null),
                (7, 0.7, Value::Null),
                (8, 0.8, json!(0.8)),
                (9, 0.9, json!(0.9)),
                (10, 1.0, json!(1.0)),
            ] {
                while used < until {
                    app.key(&acme.api_key).get("/me").await.assert_status(200);
                    used += 1;
                }
                let body = usage().await;
                assert_eq!(body["interaction_count_current_period"], used);
                assert_eq!(body["utilization_ratio"], ratio);
                assert_eq!(body["threshold_crossed"], threshold);
            }
            let body = usage().await;
            assert_eq!((&body["tier"], &body["tier_limit"]), (&json!("trial"), &json!(10)));
            assert_eq!(body["active"], true);
            assert_eq!(body["period_start"], "2036-05-01T00:00:00.000Z");
            assert_eq!(body["period_end"], "2036-06-01T00:00:00.000Z");
            send_confirmed(app, "ORG_SUSPEND", &acme.org_id, "suspend", "evt_1")
                .await
                .assert_status(200);
            assert_eq!(usage().await["active"], false);
        })
        .await;
}

#[tokio::test]
async fn a_plan_without_a_limit_has_no_ratio() {
    with_settings(&[("PLANS", r#"{"trial":{"requests_per_month":null}}"#)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let path = format!("/v1/admin/org/{}/usage", acme.org_id);
            let usage = app.master("ORG_USAGE").get(&path).await.assert_status(200).body;
            for none in ["tier_limit", "utilization_ratio", "threshold_crossed"] {
                assert_eq!(usage[none], Value::Null);
            }
        })
        .await;
}
