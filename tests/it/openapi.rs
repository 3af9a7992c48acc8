//! The API's description: the committed file is what the handlers say, and it is served. That
//! answers keep to it is checked in every test (`support::spec`).

use std::collections::HashSet;

use serde_json::Value;

use crate::support::run;
use crate::support::spec::{DOCUMENT, operations};

#[test]
fn the_committed_file_is_what_the_handlers_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = tenantry::http::openapi::yaml().unwrap();
    assert!(committed == generated, "write it anew: cargo run -- openapi > openapi.yaml");
}

#[test]
fn the_readme_and_the_description_tell_the_one_table_of_who_may_do_what() {
    let table = tenantry::model::role::markdown_table();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(readme.contains(&table), "the README does not have this table:\n{table}");
    let tags = DOCUMENT["tags"].as_array().unwrap();
    let of_people = tags.iter().find(|tag| tag["name"] == "user").unwrap();
    assert!(of_people["description"].as_str().unwrap().contains(&table));
}

#[test]
fn operation_ids_are_unique_and_every_operation_has_one() {
    let ids = operations().into_iter().map(|it| it.description["operationId"].clone());
    let ids: Vec<Value> = ids.collect();
    assert!(ids.iter().all(Value::is_string));
    assert_eq!(ids.iter().map(Value::to_string).collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn every_operation_says_in_one_line_what_it_does() {
    for operation in operations() {
        let summary = operation.description["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{} {}", operation.method, operation.path);
    }
}

#[test]
fn every_example_is_one_of_its_schema() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    let mut found = 0;
    for (name, schema) in schemas {
        check_examples(name, schema, &mut found);
    }
    assert!(found > 40, "only {found} examples were found");
}

fn check_examples(place: &str, schema: &Value, found: &mut usize) {
    for example in schema["examples"].as_array().into_iter().flatten() {
        *found += 1;
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        let fits = jsonschema::draft202012::is_valid(&whole, example);
        assert!(fits, "{place}: {example} is no example of {schema}");
    }
    let within = schema["properties"].as_object().into_iter().flatten();
    for (name, schema) in within {
        check_examples(&format!("{place}.{name}"), schema, found);
    }
    if schema["items"].is_object() {
        check_examples(&format!("{place}[]"), &schema["items"], found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check_examples(place, part, found);
    }
}

/// Two wire structs of one name would be merged silently.
#[test]
fn every_wire_struct_has_a_name_of_its_own() {
    let mut names = HashSet::new();
    for file in crate::conventions::sources("src/http") {
        let code = file.text.replace('\n', " ");
        for part in code.split("#[schema(as = ").skip(1) {
            let name = part.split([',', ')']).next().unwrap().trim().replace("::", ".");
            assert!(names.insert(name.clone()), "{name} is there twice ({})", file.path);
        }
    }
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        // A page of a list is named after what it lists.
        let name = name.split('_').next().unwrap_or_default();
        assert!(names.contains(name), "{name} has no #[schema(as = …)]");
    }
}

#[tokio::test]
async fn the_description_is_served_as_yaml_as_json_and_as_a_page_that_needs_no_network() {
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
        assert_eq!(loads.count(), 0, "the page loads from elsewhere");
    })
    .await;
}
