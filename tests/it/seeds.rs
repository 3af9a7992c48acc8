//! The requests of the published pages, as a person pastes them, answered with their shapes.

use serde_json::Value;

use crate::support::server::{Place, pasted};

/// The names of an object's members, and of what kind each is.
fn shape(value: &Value) -> Vec<(String, &'static str)> {
    let members = value.as_object().unwrap().iter();
    let kinds = members.map(|(name, value)| {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        (name.clone(), kind)
    });
    kinds.collect()
}

/// Page s0, *Example*.
#[test]
fn open_signup_answers_the_page_s_curl_with_the_page_s_shape() {
    let place = Place::new();
    let server = place.start(&[]);
    let request = r#"curl -X POST https://api.getmetacognition.com/signup \
  -H 'content-type: application/json' \
  -d '{"name": "acme corp"}'"#;
    let page: Value = serde_json::from_str(
        r#"{
          "org_id": "org_79d0fHwDRhoZ8Ww7",
          "user_id": "user_FuHtj0C14AaKHJq1",
          "api_key": "tex_live_LfbRIlFWtazFQaLw2C05IBTuoKX0B-sLFZ5XOHmkSJ8",
          "key": {
            "id": "a1247653-9646-4f32-b04f-72d2c0f5355b",
            "prefix": "tex_live_",
            "display_id": "LfbRIlFW",
            "name": "acme corp",
            "scopes": ["*"],
            "is_active": true,
            "created_at": "2026-05-08T09:56:42.855738",
            "last_used_at": null,
            "revoked_at": null
          }
        }"#,
    )
    .unwrap();
    let here = request.replace("https://api.getmetacognition.com", &server.url(""));
    let mut answer = pasted(&here);
    // The contract's addition to the page.
    let added = answer["key"].as_object_mut().unwrap().remove("expires_at");
    assert_eq!(added, Some(Value::Null));
    assert_eq!(shape(&answer), shape(&page));
    assert_eq!(shape(&answer["key"]), shape(&page["key"]));
    for same in ["name", "scopes", "is_active", "last_used_at", "revoked_at"] {
        assert_eq!(answer["key"][same], page["key"][same]);
    }
    let (org, user) = (answer["org_id"].as_str().unwrap(), answer["user_id"].as_str().unwrap());
    assert!(org.starts_with("org_") && org.len() == 14, "{org}");
    assert!(user.starts_with("user_") && user.len() == 21, "{user}");
    let key = answer["api_key"].as_str().unwrap();
    assert_eq!(&key[9..17], answer["key"]["display_id"].as_str().unwrap());
}

/// Page s0's reference request, with every field.
#[test]
fn the_page_s_reference_request_is_answered_too() {
    let place = Place::new();
    let server = place.start(&[]);
    let request = r#"curl --request POST \
  --url https://api.getmetacognition.com/signup \
  --header 'Content-Type: application/json' \
  --data '
{
  "org_id": "<string>",
  "name": "<string>"
}
'"#;
    let here = request.replace("https://api.getmetacognition.com", &server.url(""));
    let refused = pasted(&here);
    assert_eq!(refused["details"]["issues"][0]["path"][0], "org_id");
    let answer = pasted(&here.replacen("<string>", "acme", 1));
    assert_eq!(answer["org_id"], "acme");
}
