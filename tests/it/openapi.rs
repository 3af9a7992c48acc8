//! The API description: the committed file is what the code generates, and it is served.
//! Every test checks its responses against it (`support::spec`).

use std::collections::HashSet;

use serde_json::Value;

use crate::support::run;
use crate::support::spec::{DOCUMENT, operations};

#[test]
fn the_committed_description_is_what_the_code_generates() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = tenantry::http::openapi::yaml().unwrap();
    assert!(committed == generated, "generate it again: cargo run -- openapi > openapi.yaml");
}

#[test]
fn the_readme_and_the_description_contain_the_table_of_roles() {
    let table = tenantry::model::role::markdown_table();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(readme.contains(&table), "the README does not have this table:\n{table}");
    let tags = DOCUMENT["tags"].as_array().unwrap();
    let user_tag = tags.iter().find(|tag| tag["name"] == "user").unwrap();
    assert!(user_tag["description"].as_str().unwrap().contains(&table));
}

#[test]
fn operation_ids_are_unique_and_every_operation_has_one() {
    let ids = operations().into_iter().map(|it| it.description["operationId"].clone());
    let ids: Vec<Value> = ids.collect();
    assert!(ids.iter().all(Value::is_string));
    assert_eq!(ids.iter().map(Value::to_string).collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn every_operation_has_a_summary() {
    for operation in operations() {
        let summary = operation.description["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{} {}", operation.method, operation.path);
    }
}

#[test]
fn every_example_is_valid_against_its_schema() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    let mut found = 0;
    for (name, schema) in schemas {
        check_examples(name, schema, &mut found);
    }
    assert!(found > 40, "only {found} examples were found");
}

fn check_examples(path: &str, schema: &Value, found: &mut usize) {
    for example in schema["examples"].as_array().into_iter().flatten() {
        *found += 1;
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        let is_valid = jsonschema::draft202012::is_valid(&whole, example);
        assert!(is_valid, "{path}: {example} does not match {schema}");
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (name, schema) in properties {
        check_examples(&format!("{path}.{name}"), schema, found);
    }
    if schema["items"].is_object() {
        check_examples(&format!("{path}[]"), &schema["items"], found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check_examples(path, part, found);
    }
}

/// Two wire structs of one name would be merged silently.
#[test]
fn every_wire_struct_has_a_unique_name() {
    let mut names = HashSet::new();
    for file in crate::conventions::sources("src/http") {
        let code = file.text.replace('\n', " ");
        for part in code.split("#[schema(as = ").skip(1) {
            let name = part.split([',', ')']).next().unwrap().trim().replace("::", ".");
            assert!(names.insert(name.clone()), "{name} is used twice ({})", file.path);
        }
    }
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        // A page of results is named after its items.
        let name = name.split('_').next().unwrap_or_default();
        assert!(names.contains(name), "{name} has no #[schema(as = …)]");
    }
}

#[tokio::test]
async fn the_description_is_served_as_yaml_json_and_an_html_page_without_external_files() {
    run(async |app| {
        let yaml = app.anonymous().get("/openapi.yaml").await.assert_status(200);
        assert_eq!(yaml.text, tenantry::http::openapi::yaml().unwrap());
        let json = app.anonymous().get("/openapi.json").await.assert_status(200);
        assert_eq!(json.body, *DOCUMENT);
        assert_eq!(json.body["openapi"], "3.1.0");
        let page = app.anonymous().get("/docs/").await.assert_status(200);
        assert!(page.text.contains("swagger-ui"));
        for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
            let file = app.anonymous().get(&format!("/docs/{file}")).await.assert_status(200);
            assert!(!file.text.is_empty());
        }
        let settings = app.anonymous().get("/docs/swagger-initializer.js").await.assert_status(200);
        assert!(settings.text.contains(r#""validatorUrl": "none""#), "{}", settings.text);
        let loads = page.text.split(['"', '\'']).filter(|it| it.starts_with("http"));
        assert_eq!(loads.count(), 0, "the HTML page loads external files");
    })
    .await;
}
