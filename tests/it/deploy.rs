//! The files in `deploy/` match the server: metrics, paths and settings.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::server::{Server, WorkDir, curl};

fn deploy_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails if no metric of this name is exported.
#[track_caller]
fn assert_exported(metrics: &str, name: &str) {
    let is_it = |line: &str| line.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' ']));
    assert!(metrics.lines().any(is_it), "{name} is not in\n{metrics}");
}

/// Returns a server's metrics after a signup, an accepted request and a rejected request.
fn metrics_of(server: &Server) -> String {
    let key = server.sign_up();
    server.status_with(&key);
    server.status_with("garbage");
    server.metrics()
}

/// Appends every query of the dashboard to `found`.
fn collect_queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member.as_str()) {
                    ("expr" | "definition", Some(text)) => found.push(text.to_owned()),
                    _ => collect_queries(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_queries(item, found)),
        _ => {}
    }
}

/// Returns the metric names in a query: the words with an underscore that are not `ignored`.
fn metric_names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ignored = ["histogram_quantile", "label_values", "__rate_interval"];
    words.filter(move |word| word.contains('_') && !ignored.contains(word))
}

#[test]
fn every_metric_of_the_dashboard_is_exported() {
    let dir = WorkDir::new();
    let metrics = metrics_of(&dir.start(&[]));
    let dashboard: Value = serde_json::from_str(&deploy_file("grafana/tenantry.json")).unwrap();
    let mut found = Vec::new();
    collect_queries(&dashboard, &mut found);
    let names: BTreeSet<_> = found.iter().flat_map(|query| metric_names(query)).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert_exported(&metrics, name);
    }
}

#[test]
fn metrics_of_load_and_of_the_process_are_exported() {
    let dir = WorkDir::new();
    let server = dir.start(&[("MAX_IN_FLIGHT", "77")]);
    let metrics = metrics_of(&server);
    for line in [
        "http_requests_in_flight 0",
        "http_requests_in_flight_limit 77",
        r#"password_hash_queue{state="running"} 0"#,
        r#"password_hash_queue{state="waiting"} 0"#,
        r#"db_pool_waiting{pool="requests"} 0"#,
        r#"db_pool_wait_seconds_count{pool="lookups"} "#,
        "requests_shed_total 0",
        r#"stripe_events_total{outcome="unfulfilled"} 0"#,
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_start_time_seconds ",
        "process_open_fds ",
        "process_max_fds ",
        "process_threads ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn the_probe_paths_and_the_autoscaler_metric_exist() {
    let dir = WorkDir::new();
    let server = dir.start(&[]);
    let deployment = deploy_file("kubernetes/deployment.yaml");
    let probes: Vec<_> = deployment.lines().filter(|line| line.contains("path: /health")).collect();
    assert_eq!(probes.len(), 3);
    for line in probes {
        let (_, path) = line.split_once("path: ").unwrap();
        assert_eq!(curl(&[&server.url(path.trim())]).status, 200, "{path}");
    }
    let autoscaler = deploy_file("kubernetes/autoscaler.yaml");
    let (_, metric) = autoscaler.split_once("metric:").unwrap();
    let (_, name) = metric.split_once("name: ").unwrap();
    assert_exported(&metrics_of(&server), name.split_whitespace().next().unwrap());
}

#[test]
fn the_manifests_set_only_known_settings() {
    let example = include_str!("../../.env.example");
    for name in ["kubernetes/configuration.yaml", "kubernetes/secret.example.yaml"] {
        let text = deploy_file(name);
        let (_, data) = text.rsplit_once("ata:\n").unwrap(); // `data` or `stringData`
        let set = data.lines().filter_map(|line| line.trim().split_once(": "));
        let set: Vec<_> = set.map(|(name, _)| name).filter(|it| !it.starts_with('#')).collect();
        assert!(set.len() >= 4, "{set:?}");
        for variable in set {
            assert!(example.contains(&format!("# {variable}=")), "{name}: {variable}");
        }
    }
}
