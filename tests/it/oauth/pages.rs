//! The scripts of the sign-in page and the consent page, run by Node with a minimal browser, and
//! the cookie that identifies the browser.

use serde_json::{Value, json};

use super::account_and_client;
use crate::published_examples::run_program;
use crate::support::oauth::{Browser, OauthClientSpec, handle_in};
use crate::support::{run, with_settings};

/// The parts of a browser that both scripts use. `answers` are the server's responses.
const BROWSER: &str = r#"
const went = [], sent = [];
globalThis.location = { search: "?request=tnt_oauth_request_x", replace: (to) => went.push(to) };
const element = (more) => ({ hidden: false, disabled: false, textContent: "", ...more });
const line = element();
globalThis.fetch = async (path, { body }) => {
  sent.push([path, JSON.parse(body)]);
  const { status, json } = answers[sent.length - 1];
  return { status, ok: status < 400, json: async () => json };
};
let listeners = {};
const on = (name, listener) => { listeners[name] = listener; };
"#;

const SIGN_IN: &str = r#"
const answers = [
  { status: 401, json: { success: false, message: "The e-mail address or the password is wrong" } },
  { status: 200, json: { success: true } },
];
const button = element();
const page = element({ addEventListener: on, querySelector: () => button });
globalThis.document = { querySelector: (what) => (what === "form" ? page : line) };
globalThis.FormData = class {
  *[Symbol.iterator]() { yield ["email", "ann@example.com"]; yield ["password", "p"]; }
};
"#;

const SIGN_IN_PRESSES: &str = r"
await listeners.submit({ preventDefault() {} });
const first = [line.textContent, button.disabled];
await listeners.submit({ preventDefault() {} });
console.log(JSON.stringify([{ first, outcome: line.textContent, sent, went }]));
";

const CONSENT: &str = r#"
const answers = [
  { status: 403, json: { error: "access_denied", error_description: "Not permitted" } },
  { status: 200, json: { redirect: "https://a.example/cb?code=c" } },
  { status: 200, json: { redirect: "https://a.example/cb", fields: { code: "c", state: "s" } } },
  { status: 401, json: { error: "invalid_client" } },
];
const classes = new Set();
const reason = element({ hidden: true });
const label = { classList: { toggle: (name, on) => on ? classes.add(name) : classes.delete(name) },
                querySelector: () => reason };
const scope = element({ value: "api-keys:read", parentElement: label });
const chosen = { dataset: { lacking: "api-keys:read" } };
const buttons = [element(), element()];
const page = element({
  addEventListener: on,
  querySelector: () => chosen,
  querySelectorAll: (what) => (what === "button" ? buttons : [scope]),
});
const posted = [];
globalThis.document = {
  querySelector: (what) => (what === "form" ? page : line),
  createElement: () => element({
    inputs: [],
    append(it) { this.inputs.push([it.name, it.value]); },
    submit() { posted.push([this.method, this.action, this.inputs]); },
  }),
  body: { append() {} },
};
globalThis.FormData = class {
  getAll() { return ["projects:read"]; }
  get() { return "org_1"; }
};
"#;

const CONSENT_PRESSES: &str = r#"
const role = [scope.disabled, [...classes], reason.hidden];
chosen.dataset.lacking = "";
listeners.change();
const otherRole = [scope.disabled, [...classes], reason.hidden];
const press = (value) => listeners.submit({ preventDefault() {}, submitter: { value } });
await press("allow");
const rejected = [line.textContent, buttons.map((it) => it.disabled)];
await press("deny");
await press("allow");
await press("allow");
console.log(JSON.stringify([{ role, otherRole, rejected, sent, went, posted }]));
"#;

/// Runs the script of a page; `None` without Node.
fn run_script(page: &str, before: &str, after: &str) -> Option<Value> {
    let (_, script) = page.split_once("<script>").unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    let program = format!("{BROWSER}{before}{script}{after}");
    run_program("node", &["--input-type=module", "-e", &program])?.into_iter().next()
}

#[tokio::test]
async fn the_sign_in_page_shows_why_a_sign_in_failed_and_then_leads_to_the_consent_page() {
    run(async |app| {
        let (_, client) = account_and_client(app).await;
        let mut browser = Browser::new(app);
        let response = browser.get(&client.path(&[])).await.assert_status(303);
        handle_in(app, &response);
        let page = browser.get(response.header("location")).await.assert_status(200).text;
        let Some(seen) = run_script(&page, SIGN_IN, SIGN_IN_PRESSES) else { return };
        assert_eq!(seen["first"], json!(["The e-mail address or the password is wrong", false]));
        assert_eq!(seen["outcome"], "");
        let request = json!({ "email": "ann@example.com", "password": "p" });
        assert_eq!(seen["sent"][1], json!(["/api/auth/sign-in/email", request]));
        assert_eq!(seen["went"], json!(["/oauth2/consent?request=tnt_oauth_request_x"]));
    })
    .await;
}

#[tokio::test]
async fn the_consent_page_sends_the_answer_and_follows_the_response() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let handle = browser.begin(&client.path(&[])).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
        let page = page.assert_status(200).text;
        let Some(seen) = run_script(&page, CONSENT, CONSENT_PRESSES) else { return };
        assert_eq!(seen["role"], json!([true, ["lacking"], false]));
        assert_eq!(seen["otherRole"], json!([false, [], true]));
        assert_eq!(seen["rejected"], json!(["Not permitted", [false, false]]));
        let allow = json!({ "request": "tnt_oauth_request_x", "accept": true,
                            "scopes": ["projects:read"], "organizationId": "org_1" });
        let deny = json!({ "request": "tnt_oauth_request_x", "accept": false });
        assert_eq!(seen["sent"][0], json!(["/oauth2/consent", allow]));
        assert_eq!(seen["sent"][1], json!(["/oauth2/consent", deny]));
        let sign_in = "/oauth2/sign-in?request=tnt_oauth_request_x";
        assert_eq!(seen["went"], json!(["https://a.example/cb?code=c", sign_in]));
        let fields = json!([["code", "c"], ["state", "s"]]);
        assert_eq!(seen["posted"], json!([["post", "https://a.example/cb", fields]]));
    })
    .await;
}

#[tokio::test]
async fn over_https_no_other_host_can_set_the_cookie_that_identifies_the_browser() {
    with_settings(&[("PUBLIC_URL", "https://id.example.com")])
        .run(async |app| {
            let vendor = app.sign_up().await;
            let client = OauthClientSpec::default().insert(app, &vendor.org_id).await;
            let response = app.anonymous().get(&client.path(&[])).await.assert_status(303);
            let cookie = response.header("set-cookie").to_owned();
            assert!(cookie.starts_with("__Host-tenantry_browser="), "{cookie}");
            for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
                assert!(cookie.split("; ").any(|it| it == attribute), "{cookie}");
            }
            assert!(!cookie.contains("Domain") && !cookie.contains("Max-Age"), "{cookie}");
            let cookie = cookie.split(';').next().unwrap();
            let page = response.header("location").to_owned();
            handle_in(app, &response);
            let browser = app.anonymous().with("cookie", cookie);
            browser.get(&page).await.assert_status(200);
            // The cookie stays the same, so that a browser can have two open requests.
            let second = browser.get(&client.path(&[])).await.assert_status(303);
            assert_eq!(second.header("set-cookie"), "");
            let plain = cookie.replace("__Host-", "");
            app.anonymous().with("cookie", &plain).get(&page).await.assert_status(403);
            let silent = app.anonymous().get(&client.path(&[("prompt", "none")])).await;
            let issuer = "&iss=https%3A%2F%2Fid.example.com";
            assert!(silent.header("location").ends_with(issuer), "{silent:?}");
        })
        .await;
}

const DEVICE_CODE: &str = r#"
const answers = [
  { status: 404, json: { error: "not_found", error_description: "Unknown code" } },
  { status: 200, json: { request: "tnt_oauth_request_y" } },
  { status: 401, json: { error: "invalid_client" } },
];
const button = element();
const page = element({ addEventListener: on, querySelector: () => button });
globalThis.document = { querySelector: (what) => (what === "form" ? page : line) };
globalThis.FormData = class { get() { return "WDJB-MJHT"; } };
"#;

const DEVICE_CODE_PRESSES: &str = r"
const loaded = sent.length;
const press = () => listeners.submit({ preventDefault() {} });
await press();
const rejected = [line.textContent, button.disabled];
await press();
await press();
console.log(JSON.stringify([{ loaded, rejected, sent, went }]));
";

const DEVICE_APPROVAL: &str = r#"
const answers = [
  { status: 403, json: { error: "access_denied", error_description: "Not permitted" } },
  { status: 200, json: { status: "approved" } },
  { status: 200, json: { status: "denied" } },
  { status: 401, json: { error: "invalid_client" } },
];
const reason = element({ hidden: true });
const scope = {
  dataset: { scope: "api-keys:read" }, classList: { toggle() {} }, querySelector: () => reason,
};
const chosen = { dataset: { lacking: "api-keys:read" } };
const buttons = [element(), element()];
const page = element({
  addEventListener: on,
  querySelector: () => chosen,
  querySelectorAll: (what) => (what === "button" ? buttons : [scope]),
});
globalThis.document = { querySelector: (what) => (what === "form" ? page : line) };
globalThis.FormData = class { get() { return "org_1"; } };
"#;

const DEVICE_APPROVAL_PRESSES: &str = r#"
const lacking = !reason.hidden;
const press = async (value) => {
  page.hidden = false;
  await listeners.submit({ preventDefault() {}, submitter: { value } });
  return [line.textContent, page.hidden];
};
const rejected = await press("approve");
const approved = await press("approve");
const denied = await press("deny");
await press("approve");
console.log(JSON.stringify([{ lacking, rejected, approved, denied, sent, went }]));
"#;

/// A signed-in browser, and the handle of a device's request.
async fn device_codes(app: &crate::support::TestApp) -> (Browser<'_>, String) {
    let ann = app.verified_account("ann@example.com").await;
    let spec = OauthClientSpec {
        auth_method: "none",
        application_type: "native",
        ..OauthClientSpec::default()
    };
    let client = spec.insert(app, &ann.org_id).await;
    let form = crate::support::oauth::form(&[("client_id", &client.client_id)]);
    let codes = app.anonymous().post_form("/oauth2/device_authorization", &form).await;
    let user_code = codes.assert_status(200).body["user_code"].as_str().unwrap().to_owned();
    let request = json!({ "userCode": user_code });
    let claimed = app.session(&ann.cookie).post("/oauth2/device/claim", request).await;
    let handle = claimed.assert_status(200).body["request"].as_str().unwrap().to_owned();
    (Browser::signed_in(app, &ann.cookie), handle)
}

#[tokio::test]
async fn the_sign_in_page_leads_to_the_device_page_with_the_code_that_it_was_opened_with() {
    run(async |app| {
        let path = "/oauth2/sign-in?user_code=WDJB-MJHT";
        let page = app.anonymous().get(path).await.assert_status(200).text;
        let before = format!("{SIGN_IN}location.search = '?user_code=WDJB-MJHT';");
        let Some(seen) = run_script(&page, &before, SIGN_IN_PRESSES) else { return };
        assert_eq!(seen["went"], json!(["/device?user_code=WDJB-MJHT"]));
    })
    .await;
}

#[tokio::test]
async fn the_device_page_sends_the_code_only_when_the_person_submits_it_and_then_their_answer() {
    run(async |app| {
        let (mut browser, handle) = device_codes(app).await;
        let page = browser.get("/device?user_code=WDJB-MJHT").await.assert_status(200).text;
        let Some(seen) = run_script(&page, DEVICE_CODE, DEVICE_CODE_PRESSES) else { return };
        assert_eq!(seen["loaded"], 0);
        assert_eq!(seen["rejected"], json!(["Unknown code", false]));
        let claim = json!(["/oauth2/device/claim", { "userCode": "WDJB-MJHT" }]);
        assert_eq!(seen["sent"][0], claim);
        let next = ["/device?request=tnt_oauth_request_y", "/oauth2/sign-in?user_code=WDJB-MJHT"];
        assert_eq!(seen["went"], json!(next));
        let page = browser.get(&format!("/device?request={handle}")).await.assert_status(200);
        let seen = run_script(&page.text, DEVICE_APPROVAL, DEVICE_APPROVAL_PRESSES).unwrap();
        assert_eq!(seen["lacking"], true);
        assert_eq!(seen["rejected"], json!(["Not permitted", false]));
        assert_eq!(seen["approved"], json!(["Access was granted. Return to your device.", true]));
        assert_eq!(seen["denied"], json!(["Access was denied.", true]));
        let request = json!("tnt_oauth_request_x");
        let approve = json!({ "request": request, "organizationId": "org_1" });
        assert_eq!(seen["sent"][0], json!(["/oauth2/device/approve", approve]));
        assert_eq!(seen["sent"][2], json!(["/oauth2/device/deny", { "request": request }]));
        assert_eq!(seen["went"], json!(["/oauth2/sign-in?user_code="]));
    })
    .await;
}
