//! Example requests of published API documentation get responses with the documented fields.

use serde_json::{Value, json};

use crate::support::server::{WorkDir, run_shell};
use crate::support::tools;

/// The names of an object's fields and the JSON type of each.
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

#[test]
fn the_documented_curl_of_signup_gets_the_documented_fields() {
    let place = WorkDir::new();
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
    // Fields that the example lacks.
    let mut answer = without(&run_shell(&here), &["never_expires"]);
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

#[test]
fn the_documented_signup_request_with_every_field_is_accepted_with_a_valid_id() {
    let place = WorkDir::new();
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
    let rejected = run_shell(&here);
    assert_eq!(rejected["details"]["issues"][0]["path"][0], "org_id");
    let answer = run_shell(&here.replacen("<string>", "acme", 1));
    assert_eq!(answer["org_id"], "acme");
}

/// The example's key prefix and scopes are configured.
#[test]
fn the_documented_curl_of_key_creation_gets_the_documented_fields() {
    let place = WorkDir::new();
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
    let answer = without(&run_shell(&here.replace("sig_xxxxxxxxxxxx", &own)), &["never_expires"]);
    assert_eq!(shape(&answer), shape(&page));
    for same in ["object", "name", "scopes", "expires_at"] {
        assert_eq!(answer[same], page[same]);
    }
    let key = answer["key"].as_str().unwrap();
    assert_eq!(answer["prefix"].as_str().unwrap(), &key[..8]);
    assert_eq!(server.status_with(key), 200);
    // The documented errors for a taken name and an unknown key.
    let again = run_shell(&here.replace("sig_xxxxxxxxxxxx", &own));
    assert_eq!(again["error"]["type"], "conflict");
    let stranger = run_shell(&here);
    assert_eq!(stranger["error"]["type"], "unauthorized");
}

#[test]
fn account_signup_gets_the_documented_fields_and_errors() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let request = format!(
        r#"curl -s -X POST {} -H "Content-Type: application/json" -d '{{
  "email": "dev@example.com",
  "password": "a-long-secure-passphrase",
  "name": "Jane Developer"
}}'"#,
        server.url("/auth/signup")
    );
    let page: Value = serde_json::from_str(
        r#"{"data": {"token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
                     "api_key": "rag_live_abc123def456...",
                     "account": {"id": "acc_a1b2c3d4e5", "email": "dev@example.com",
                                 "name": "Jane Developer", "plan": "trial"}}}"#,
    )
    .unwrap();
    let answer = run_shell(&request);
    assert_eq!(shape(&answer), shape(&page));
    assert_eq!(shape(&answer["data"]), shape(&page["data"]));
    let account = &answer["data"]["account"];
    assert_eq!(shape(account), shape(&page["data"]["account"]));
    for same in ["email", "name", "plan"] {
        assert_eq!(account[same], page["data"]["account"][same]);
    }
    assert!(account["id"].as_str().unwrap().starts_with("acc_"));
    let token = answer["data"]["token"].as_str().unwrap();
    assert!(token.starts_with("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiI"), "{token}");
    // The documented errors for a repeated and a wrong request.
    let conflict: Value = serde_json::from_str(
        r#"{"error": {"code": "CONFLICT",
                      "message": "An account with this email already exists"}}"#,
    )
    .unwrap();
    assert_eq!(run_shell(&request), conflict);
    let missing = run_shell(&request.replace("\"name\"", "\"nom\""));
    assert_eq!(missing["error"]["code"], "VALIDATION_ERROR");
    assert_eq!(missing["error"]["details"]["issues"][0]["path"][0], "nom");
}

/// Asserts that the responses to a sign-up, a repeated one, one without a password and `/auth/me`
/// are as documented.
#[track_caller]
fn assert_is_page_s1(answers: &[Value]) {
    let [signed_up, again, missing, me] = answers else { panic!("{answers:?}") };
    let page: Value = serde_json::from_str(
        r#"{"token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
            "api_key": "rag_live_abc123def456...",
            "account": {"id": "acc_a1b2c3d4e5", "email": "dev@example.com",
                        "name": "Jane Developer", "plan": "trial"}}"#,
    )
    .unwrap();
    assert_eq!(signed_up["status"], 201);
    let data = &signed_up["body"]["data"];
    assert_eq!(shape(data), shape(&page));
    assert_eq!(shape(&data["account"]), shape(&page["account"]));
    for same in ["email", "name", "plan"] {
        assert_eq!(data["account"][same], page["account"][same]);
    }
    assert_eq!(again["status"], 409);
    let message = "An account with this email already exists";
    assert_eq!(again["body"], json!({ "error": { "code": "CONFLICT", "message": message } }));
    assert_eq!(missing["status"], 400);
    let error = &missing["body"]["error"];
    assert_eq!(error["code"], "VALIDATION_ERROR");
    assert_eq!(error["details"]["issues"][0]["path"], json!(["password"]));
    assert_eq!(me["status"], 200);
    assert_eq!(me["body"]["data"]["id"], data["account"]["id"]);
}

/// Uses Node's `fetch`.
#[test]
fn account_signup_works_with_node() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let program = r"
const answers = [];
const keep = async (res) => answers.push({ status: res.status, body: await res.json() });
const signUp = (account) => fetch('https://api.example.com/auth/signup', {
method: 'POST',
headers: { 'Content-Type': 'application/json' },
body: JSON.stringify(account),
});
const account = {
email: 'dev@example.com',
password: 'a-long-secure-passphrase',
name: 'Jane Developer',
};
await keep(await signUp(account));
await keep(await signUp(account));
await keep(await signUp({ email: 'other@example.com' }));
const headers = { Authorization: `Bearer ${answers[0].body.data.token}` };
await keep(await fetch('https://api.example.com/auth/me', { headers }));
console.log(JSON.stringify(answers));
";
    let here = program.replace("https://api.example.com", &server.url(""));
    let Some(answers) = run_program("node", &["--input-type=module", "-e", &here]) else { return };
    assert_is_page_s1(&answers);
}

/// Uses Python's `requests`.
#[test]
fn account_signup_works_with_python() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let program = r"
import json, requests
answers = []
def keep(res):
    answers.append({'status': res.status_code, 'body': res.json()})
account = {
'email': 'dev@example.com',
'password': 'a-long-secure-passphrase',
'name': 'Jane Developer',
}
keep(requests.post('https://api.example.com/auth/signup', json=account))
keep(requests.post('https://api.example.com/auth/signup', json=account))
keep(requests.post('https://api.example.com/auth/signup', json={'email': 'other@example.com'}))
token = answers[0]['body']['data']['token']
headers = {'Authorization': f'Bearer {token}'}
keep(requests.get('https://api.example.com/auth/me', headers=headers))
print(json.dumps(answers))
";
    let here = program.replace("https://api.example.com", &server.url(""));
    let Some(answers) = run_python(&here) else { return };
    assert_is_page_s1(&answers);
}

/// The object without these fields, each of which must be there.
#[track_caller]
fn without(object: &Value, added: &[&str]) -> Value {
    let mut object = object.clone();
    let members = object.as_object_mut().unwrap();
    for name in added {
        assert!(members.remove(*name).is_some(), "{name} is missing");
    }
    object
}

/// Asserts the documented responses of the quick start.
#[track_caller]
fn assert_is_page_s4(answers: &[Value]) {
    let created: Value = serde_json::from_str(
        r#"{"success": true, "status": 200, "code": "OK", "message": "API key created",
            "data": {"id": "ak_abc123", "name": "CI deploy bot", "key": "ba_AbCdEf0123456789XyZ...",
                     "scopes": ["user:read", "projects:read", "projects:write"],
                     "expiresAt": "2026-05-05T10:00:00.000Z"}}"#,
    )
    .unwrap();
    let profile: Value = serde_json::from_str(
        r#"{"success": true, "status": 200, "code": "OK", "message": "User fetched successfully",
            "data": {"id": "01HZ3K5R4X9Y2V6QF8TJ7W0CDN", "email": "you@example.com",
                     "fullName": "Your Name", "handle": "yourname", "isVerified": true,
                     "verifiedAt": "2026-04-05T10:05:00.000Z", "isActive": true,
                     "lastLoginAt": "2026-04-05T10:00:00.000Z", "role": "user",
                     "organizationCount": 1, "createdAt": "2026-04-05T10:00:00.000Z",
                     "updatedAt": "2026-04-05T10:00:00.000Z"}}"#,
    )
    .unwrap();
    let [signed_up, signed_in, token, me, organizations, projects] = answers else {
        panic!("{answers:?}")
    };
    assert_eq!(
        (&signed_up["status"], &signed_in["status"]),
        (&Value::from(200), &Value::from(200))
    );
    assert_eq!(shape(token), shape(&created));
    let added = [
        "createdAt",
        "enabled",
        "lastUsedAt",
        "metadata",
        "neverExpires",
        "organizationId",
        "prefix",
        "start",
        "updatedAt",
        "userId",
    ];
    assert_eq!(shape(&without(&token["data"], &added)), shape(&created["data"]));
    for same in ["name", "scopes"] {
        assert_eq!(token["data"][same], created["data"][same]);
    }
    assert_eq!(token["message"], created["message"]);
    assert_eq!(shape(me), shape(&profile));
    let mut verified = without(&me["data"], &["emailVerified", "image", "name", "securityMails"]);
    // The address is not verified yet.
    assert_eq!(verified["isVerified"], false);
    verified["verifiedAt"] = profile["data"]["verifiedAt"].clone();
    assert_eq!(shape(&verified), shape(&profile["data"]));
    for same in ["fullName", "handle", "role", "organizationCount", "isActive"] {
        assert_eq!(me["data"][same], profile["data"][same]);
    }
    assert_eq!(me["message"], profile["message"]);
    assert_eq!(organizations["data"][0]["role"], "owner");
    assert_eq!(projects["data"], Value::Array(Vec::new()));
    assert_eq!(projects["meta"]["total"], 0);
}

/// Uses curl with its cookie jar.
#[test]
fn the_quick_start_works_with_curl() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let page = [
        r#"curl -X POST https://api.example.com/api/auth/sign-up/email \
-H "Content-Type: application/json" \
-d '{
"email": "you@example.com",
"password": "a-long-secure-passphrase",
"name": "Your Name"
}'"#,
        r#"curl -X POST https://api.example.com/api/auth/sign-in/email \
-H "Content-Type: application/json" \
-c cookies.txt \
-d '{
"email": "you@example.com",
"password": "a-long-secure-passphrase"
}'"#,
        r#"curl -X POST https://api.example.com/api/auth/api-key/create \
-H "Content-Type: application/json" \
-b cookies.txt \
-d '{
"name": "CI deploy bot",
"expiresIn": 2592000,
"scopes": ["user:read", "projects:read", "projects:write"]
}'"#,
        r#"curl https://api.example.com/api/user/me \
-H "X-Api-Key: ba_AbCdEf0123456789XyZ...""#,
        r#"curl https://api.example.com/api/user/organizations \
-H "X-Api-Key: ba_AbCdEf0123456789XyZ...""#,
        r#"ORG_ID="01HZ3K5R4X9Y2V6QF8TJ7W0CDN"
curl "https://api.example.com/api/user/organizations/${ORG_ID}/projects" \
-H "X-Api-Key: ba_AbCdEf0123456789XyZ...""#,
    ];
    let jar = place.path().join("cookies.txt").display().to_string();
    let mut answers: Vec<Value> = Vec::new();
    for request in page {
        let here = request.replace("https://api.example.com", &server.url(""));
        let here = here.replace("cookies.txt", &jar);
        let found = |at: usize, pointer: &str| {
            answers.get(at).and_then(|it| it.pointer(pointer)?.as_str()).unwrap_or_default()
        };
        let here = here.replace("ba_AbCdEf0123456789XyZ...", found(2, "/data/key"));
        let here = here.replace("01HZ3K5R4X9Y2V6QF8TJ7W0CDN", found(4, "/data/0/id"));
        answers.push(run_shell(&here));
    }
    assert_is_page_s4(&answers);
}

/// Uses Node's `fetch`, which keeps no cookies by itself.
#[test]
fn the_quick_start_works_with_node() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let program = r"
const answers = [];
const signUp = await fetch('https://api.example.com/api/auth/sign-up/email', {
method: 'POST',
headers: { 'Content-Type': 'application/json' },
credentials: 'include',
body: JSON.stringify({
email: 'you@example.com',
password: 'a-long-secure-passphrase',
name: 'Your Name',
}),
});
answers.push(await signUp.json());
const res = await fetch('https://api.example.com/api/auth/sign-in/email', {
method: 'POST',
headers: { 'Content-Type': 'application/json' },
credentials: 'include',
body: JSON.stringify({
email: 'you@example.com',
password: 'a-long-secure-passphrase',
}),
});
answers.push(await res.json());
const cookie = res.headers.get('set-cookie').split(';')[0];
const created = await fetch('https://api.example.com/api/auth/api-key/create', {
method: 'POST',
headers: { 'Content-Type': 'application/json', Cookie: cookie },
credentials: 'include',
body: JSON.stringify({
name: 'CI deploy bot',
expiresIn: 2592000,
scopes: ['user:read', 'projects:read', 'projects:write'],
}),
});
answers.push(await created.json());
const headers = { 'X-Api-Key': answers[2].data.key };
const me = await fetch('https://api.example.com/api/user/me', { headers });
answers.push(await me.json());
const organizations = await fetch('https://api.example.com/api/user/organizations', { headers });
answers.push(await organizations.json());
const organizationId = answers[4].data[0].id;
const projects = await fetch(
`https://api.example.com/api/user/organizations/${organizationId}/projects`,
{ headers },
);
answers.push(await projects.json());
console.log(JSON.stringify(answers));
";
    let here = program.replace("https://api.example.com", &server.url(""));
    let Some(answers) = run_program("node", &["--input-type=module", "-e", &here]) else { return };
    assert_is_page_s4(&answers);
}

/// Uses Python's `requests` with its cookie jar.
#[test]
fn the_quick_start_works_with_python() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let program = r"
import json, requests
answers = []
res = requests.post(
'https://api.example.com/api/auth/sign-up/email',
json={
'email': 'you@example.com',
'password': 'a-long-secure-passphrase',
'name': 'Your Name',
},
)
answers.append(res.json())
session = requests.Session() # holds cookies across requests
answers.append(session.post(
'https://api.example.com/api/auth/sign-in/email',
json={
'email': 'you@example.com',
'password': 'a-long-secure-passphrase',
},
).json())
res = session.post(
'https://api.example.com/api/auth/api-key/create',
json={
'name': 'CI deploy bot',
'expiresIn': 2592000,
'scopes': ['user:read', 'projects:read', 'projects:write'],
},
)
answers.append(res.json())
api_key = res.json()['data']['key'] # shown once
headers = {'X-Api-Key': api_key}
me = requests.get('https://api.example.com/api/user/me', headers=headers)
answers.append(me.json())
organizations = requests.get('https://api.example.com/api/user/organizations', headers=headers)
answers.append(organizations.json())
organization_id = answers[4]['data'][0]['id']
projects = requests.get(
f'https://api.example.com/api/user/organizations/{organization_id}/projects',
headers=headers,
)
answers.append(projects.json())
print(json.dumps(answers))
";
    let here = program.replace("https://api.example.com", &server.url(""));
    let Some(answers) = run_python(&here) else { return };
    assert_is_page_s4(&answers);
}

/// Returns the JSON list that a program prints, or `None` if the test is skipped because the
/// program is missing.
pub fn run_program(name: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let program = tools::find_program(name)?;
    let done = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    Some(serde_json::from_slice(&done.stdout).unwrap())
}

/// The same for a Python program.
fn run_python(program: &str) -> Option<Vec<Value>> {
    let python = tools::find_program("python3")?;
    let import = std::process::Command::new(python).args(["-c", "import requests"]).output();
    let is_installed = import.unwrap().status.success();
    if !tools::is_installed("Python's package requests", is_installed) {
        return None;
    }
    run_program("python3", &["-c", program])
}

#[test]
fn the_documented_curl_of_provisioning_gets_the_documented_fields_and_the_key_only_once() {
    let place = WorkDir::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = place.start(&[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
    let request = r#"curl -X POST https://api.cohesionauth.com/v1/admin/org/create \
  -H "X-API-Key: $MASTER_ADMIN_KEY_ORG_CREATE" \
  -H "Content-Type: application/json" \
  -H "Idempotency-Key: example-org-create-key" \
  -d '{
    "org_id": "org_acme_2026_example",
    "name": "Acme Corp",
    "domain": "general",
    "tier": "starter",
    "allowed_origins": "https://acme.example.com"
  }'"#;
    let page: Value = serde_json::from_str(
        r#"{
          "org_id": "org_acme_2026_example",
          "api_key": "TEST_FIXTURE_NOT_A_REAL_KEY_ORG_CREATE",
          "prefix": "TESTFIXT",
          "created_at": "2026-05-02T20:00:00.000Z",
          "warning": "This API key is shown ONCE. Store it securely. It cannot be retrieved later.",
          "request_id": "req_01H...",
          "timestamp": "2026-05-02T20:00:00.000Z"
        }"#,
    )
    .unwrap();
    let here = request.replace("https://api.cohesionauth.com", &server.url(""));
    let with_variable = format!("MASTER_ADMIN_KEY_ORG_CREATE={secret}\n{here}");
    let answer = run_shell(&with_variable);
    assert_eq!(shape(&answer), shape(&page));
    for same in ["org_id", "warning"] {
        assert_eq!(answer[same], page[same]);
    }
    let key = answer["api_key"].as_str().unwrap();
    assert_eq!(&key[9..17], answer["prefix"].as_str().unwrap());
    assert_eq!(server.status_with(key), 200);
    let mut again = run_shell(&with_variable);
    let added = again.as_object_mut().unwrap().remove("already_provisioned");
    assert_eq!(added, Some(Value::Bool(true)));
    let mut expected = shape(&page);
    expected.retain(|(name, _)| name != "api_key");
    assert_eq!(shape(&again), expected);
    // The documented errors for an unset variable and an existing id.
    let unset = run_shell(&here);
    assert_eq!(unset["error"], "UNAUTHORIZED");
    let taken = run_shell(&with_variable.replace("example-org-create-key", "another"));
    assert_eq!(taken["error"], "CONFLICT");
}
