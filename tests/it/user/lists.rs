//! Offset paging: the metadata of every list's pages, and invalid parameters.

use serde_json::json;
use tenantry::http::family::Family;

use crate::support::requests::Fixtures;
use crate::support::run;
use crate::support::spec::{Operation, operations};

/// Every operation with an offset parameter in the description.
fn lists() -> Vec<Operation> {
    let takes = |operation: &Operation, wanted: &str| {
        let parameters = operation.description["parameters"].as_array();
        parameters.into_iter().flatten().any(|it| it["in"] == "query" && it["name"] == wanted)
    };
    let lists: Vec<_> = operations().into_iter().filter(|it| takes(it, "offset")).collect();
    for list in &lists {
        assert!(takes(list, "limit") && takes(list, "q"), "{} takes no limit or q", list.id());
    }
    lists
}

#[tokio::test]
async fn every_list_takes_a_limit_an_offset_and_a_search() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        let lists = lists();
        let ids: Vec<_> = lists.iter().map(Operation::id).collect();
        for wanted in ["listMembers", "listInvites", "listOrganizations", "listAuditLogs"] {
            assert!(ids.contains(&wanted), "{ids:?}");
        }
        for list in lists {
            assert_eq!(Family::from_path(&list.path), Family::User);
            let (client, path) = (fixtures.client_for(app, &list), fixtures.path(&list));
            let whole = client.get(&path).await.assert_status(200);
            let total = whole.body["meta"]["total"].as_u64().unwrap();
            assert!(total > 0, "{} shows nothing", list.id());
            let far =
                client.get(&format!("{path}?offset=1000000&limit=100")).await.assert_status(200);
            assert_eq!(far.body["data"], json!([]), "{}", list.id());
            let meta =
                json!({ "total": total, "offset": 1_000_000, "limit": 100, "hasMore": false });
            assert_eq!(far.body["meta"], meta, "{}", list.id());
            let none = client.get(&format!("{path}?q=%25nothing_is_called_this")).await;
            assert_eq!(none.assert_status(200).body["meta"]["total"], 0, "{}", list.id());
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_list_parameter_is_rejected_by_name() {
    run(async |app| {
        let fixtures = Fixtures::new(app).await;
        for list in lists() {
            let (client, path) = (fixtures.client_for(app, &list), fixtures.path(&list));
            for wrong in [
                "-1",
                "%2B5",
                "+5",
                "5.0",
                "1e1",
                "0x5",
                "five",
                "%D9%A5",
                "9223372036854775808",
                "99999999999999999999999",
            ] {
                let both = client.get(&format!("{path}?limit={wrong}&offset={wrong}")).await;
                let both = both.assert_error(400, "VALIDATION_ERROR");
                assert_eq!(both.invalid_fields(), ["offset", "limit"], "{} {wrong}", list.id());
            }
            for wrong in ["limit=0", "limit=101", "offset=1000001", "limit=5&limit=5", "q=%00"] {
                let (field, _) = wrong.split_once('=').unwrap();
                let rejected = client.get(&format!("{path}?{wrong}")).await;
                let rejected = rejected.assert_error(400, "VALIDATION_ERROR");
                assert_eq!(rejected.invalid_fields(), [field], "{} {wrong}", list.id());
            }
        }
        let cursors = app.key(&fixtures.acme.api_key);
        for path in ["/v1/organization/api-keys", "/v1/organization/audit-log"] {
            for wrong in ["%2B5", "-1", "0", "101", "five", "99999999999999999999999"] {
                let rejected = cursors.get(&format!("{path}?limit={wrong}")).await;
                assert_eq!(
                    rejected.assert_status(400).invalid_fields(),
                    ["limit"],
                    "{path} {wrong}"
                );
            }
        }
    })
    .await;
}
