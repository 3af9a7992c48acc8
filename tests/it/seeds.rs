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

/// Page s2, *Code Examples*, with a key of the deployment and its scopes configured.
#[test]
fn creating_a_key_answers_the_page_s_curl_with_the_page_s_shape() {
    let place = Place::new();
    let settings = [("KEY_PREFIX", "sig_"), ("SCOPES", "trademarks:read")];
    let server = place.start(&settings);
    let own = server.sign_up();
    let request = r#"curl -X POST https://api.signa.so/v1/organization/api-keys \
  -H "Authorization: Bearer sig_xxxxxxxxxxxx" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Analytics Dashboard",
    "scopes": ["trademarks:read", "billing:read"]
  }'"#;
    let page: Value = serde_json::from_str(
        r#"{
          "id": "key_Pe5hI9jK",
          "object": "api_key",
          "name": "Analytics Dashboard",
          "key": "sig_a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5b6",
          "prefix": "sig_a1b2",
          "scopes": ["trademarks:read", "billing:read"],
          "created_at": "2026-03-24T16:00:00Z",
          "expires_at": null,
          "request_id": "req_wP2gH8iJ"
        }"#,
    )
    .unwrap();
    let here = request.replace("https://api.signa.so", &server.url(""));
    let answer = pasted(&here.replace("sig_xxxxxxxxxxxx", &own));
    assert_eq!(shape(&answer), shape(&page));
    for same in ["object", "name", "scopes", "expires_at"] {
        assert_eq!(answer[same], page[same]);
    }
    let key = answer["key"].as_str().unwrap();
    assert_eq!(answer["prefix"].as_str().unwrap(), &key[..8]);
    assert_eq!(server.status_with(key), 200);
    // As the page says of a second time, and of what is missing.
    let again = pasted(&here.replace("sig_xxxxxxxxxxxx", &own));
    assert_eq!(again["error"]["type"], "conflict");
    let stranger = pasted(&here);
    assert_eq!(stranger["error"]["type"], "unauthorized");
}
