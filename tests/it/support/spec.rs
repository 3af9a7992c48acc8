//! Validates responses against the API's description.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use tenantry::http::family::Family;

use super::client::TestResponse;

/// The description as JSON.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let description = tenantry::http::openapi::describe(tenantry::http::routes());
    serde_json::to_value(description.document).expect("JSON")
});

/// One method on one path.
pub struct Operation {
    /// In capitals.
    pub method: String,
    /// With `{parameters}`.
    pub path: String,
    /// Its object in the document.
    pub description: Value,
}

impl Operation {
    /// Its operation id.
    pub fn id(&self) -> &str {
        self.description["operationId"].as_str().expect("an operation id")
    }

    /// Its security requirements: empty if it accepts no credential; one of them is `{}` if the
    /// credential is optional.
    fn credentials(&self) -> &[Value] {
        self.description["security"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether it accepts a credential.
    pub fn accepts_credential(&self) -> bool {
        !self.credentials().is_empty()
    }

    /// Whether it requires a credential.
    pub fn requires_credential(&self) -> bool {
        self.accepts_credential() && self.credentials().iter().all(|it| *it != json!({}))
    }

    /// Whether it requires a master key of the operator.
    pub fn requires_master_key(&self) -> bool {
        self.credentials().iter().any(|it| it.get("master_key").is_some())
    }

    /// Whether it accepts only OAuth access tokens.
    pub fn requires_oauth_token(&self) -> bool {
        self.credentials().iter().any(|it| it.get("oauth_token").is_some())
    }

    /// Whether it accepts a verifier.
    pub fn requires_verifier(&self) -> bool {
        self.credentials().iter().any(|it| it.get("verifier").is_some())
    }

    /// Whether a proxy calls it: then `Authorization` is its client's.
    pub fn is_for_proxies(&self) -> bool {
        let accepts_bearer = |it: &Value| it.get("verifier_bearer").is_some();
        self.requires_verifier() && !self.credentials().iter().any(accepts_bearer)
    }

    /// Whether it is authenticated by a signature of its body.
    pub fn is_signed(&self) -> bool {
        let schemes = ["stripe_signature", "github_signature"];
        self.credentials().iter().any(|it| schemes.iter().any(|name| it.get(name).is_some()))
    }

    /// The names of the ids in its query and its body.
    pub fn id_names(&self) -> BTreeSet<String> {
        let body = &self.description["requestBody"]["content"]["application/json"]["schema"];
        let mut names = BTreeSet::new();
        collect_names(body, &mut names);
        let parameters = self.description["parameters"].as_array().into_iter().flatten();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        names.extend(in_query.filter_map(|it| it["name"].as_str().map(str::to_owned)));
        names.retain(|name| name == "id" || name.ends_with("Id") || name.ends_with("_id"));
        names
    }

    /// Whether it reads a body.
    pub fn has_request_body(&self) -> bool {
        self.description["requestBody"].is_object()
    }

    /// The media type of the body that it reads.
    pub fn content_type(&self) -> Option<&str> {
        let content = self.description["requestBody"]["content"].as_object()?;
        content.keys().next().map(String::as_str)
    }

    /// Whether it reads a JSON body.
    pub fn has_json_body(&self) -> bool {
        self.content_type() == Some("application/json")
    }
}

/// Collects the names of a schema's properties, at any depth.
fn collect_names(schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()) {
        collect_names(&DOCUMENT["components"]["schemas"][name], names);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        collect_names(property, names);
    }
    let parts = ["oneOf", "anyOf", "allOf"].iter().filter_map(|it| schema[it].as_array()).flatten();
    for part in parts.chain(schema.get("items")) {
        collect_names(part, names);
    }
}

/// Every operation of the document.
pub fn operations() -> Vec<Operation> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item");
        item.iter().map(|(method, description)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            description: description.clone(),
        })
    });
    let operations: Vec<Operation> = operations.collect();
    assert!(operations.len() > 80, "only {} operations were found", operations.len());
    operations
}

/// Fails if the description does not allow the response: its status, media type or schema. An error
/// at a path without an operation must have the error schema of the family.
pub fn assert_in_spec(method: &str, path: &str, response: &TestResponse) {
    static KNOWN: LazyLock<Vec<Operation>> = LazyLock::new(operations);
    if method == "HEAD" {
        return assert_eq!(response.text, "", "a response to HEAD has a body");
    }
    let path = path.split('?').next().unwrap_or_default();
    let operation = KNOWN
        .iter()
        .find(|operation| operation.method == method && path_matches(&operation.path, path));
    match operation {
        Some(operation) => assert_matches_operation(operation, response),
        None if !response.status.is_client_error() && !response.status.is_server_error() => {}
        None => {
            let schema = match Family::from_path(path) {
                Family::Onboarding => "onboarding.Error",
                Family::Account => "account.Error",
                Family::Organization | Family::Verification => "organization.Error",
                Family::Operator => "operator.Error",
                Family::User => "user.Error",
                Family::OAuth => "oauth.Error",
                Family::Other => "Problem",
            };
            assert_valid(&json!({ "$ref": format!("#/components/schemas/{schema}") }), response);
        }
    }
}

fn assert_matches_operation(operation: &Operation, response: &TestResponse) {
    let Operation { method, path, description } = operation;
    let status = response.status.as_str();
    let described = &description["responses"][status];
    assert!(described.is_object(), "{method} {path} does not describe {status}: {}", response.text);
    let Some(content) = described.get("content").and_then(Value::as_object) else {
        assert_eq!(response.text, "", "{method} {path} describes no body for {status}");
        return;
    };
    let sent = response.header("content-type");
    let media_type = content.get(sent);
    let media_type = media_type.unwrap_or_else(|| panic!("{method} {path} {status}: {sent}"));
    if sent.starts_with("text/") {
        return;
    }
    if sent == "application/x-ndjson" {
        assert!(response.text.is_empty() || response.text.ends_with('\n'));
        return;
    }
    assert_valid(&media_type["schema"], response);
}

fn assert_valid(schema: &Value, response: &TestResponse) {
    let validator = validator(schema);
    let errors: Vec<String> =
        validator.iter_errors(&response.body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {}", response.text);
}

/// A validator of the schema that rejects fields which the schema does not name.
fn validator(schema: &Value) -> Arc<Validator> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("no panic");
    let created = || Arc::new(compile_validator(schema));
    Arc::clone(known.entry(schema.to_string()).or_insert_with(created))
}

fn compile_validator(schema: &Value) -> Validator {
    let mut whole = schema.clone();
    whole["unevaluatedProperties"] = json!(false);
    whole["components"] = DOCUMENT["components"].clone();
    jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{error}"))
}

fn path_matches(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other || one.starts_with('{') => {}
            _ => return false,
        }
    }
}
