//! The script of the HTML pages that mailed links lead to, run by Node with a minimal browser.

use serde_json::{Value, json};

use crate::published_examples::run_program;
use crate::support::run;

/// A stub of a browser: a form with a hidden password field, and responses in place of the
/// server's.
const BROWSER: &str = r#"
globalThis.location = { search: "?token=tnt_link_x", pathname: "/api/auth/verify-email" };
globalThis.history = { replaceState() {} };
const field = { disabled: true, value: "", focus() { this.isFocused = true; } };
const label = { hidden: true };
const button = { disabled: false };
const line = { textContent: "" };
let press;
const page = {
  hidden: false,
  addEventListener: (_, listener) => { press = listener; },
  querySelector: (what) => (what === "button" ? button : field),
  querySelectorAll: () => (label.hidden ? [label] : []),
};
globalThis.document = { querySelector: (what) => (what === "form" ? page : line) };
globalThis.FormData = class {
  *[Symbol.iterator]() { if (!field.disabled) yield ["password", field.value]; }
};
const answers = [
  { success: false, code: "AUTHENTICATION_REQUIRED", message: "`password` is required" },
  { success: true, code: "OK", message: "E-mail address verified", data: { callbackURL: null } },
];
const sent = [];
globalThis.fetch = async (_, { body }) => {
  sent.push(JSON.parse(body));
  return { json: async () => answers[sent.length - 1] };
};
const state = () => ({
  asked: !label.hidden, enabled: !field.disabled, focused: field.isFocused === true,
  pressable: !button.disabled, outcome: line.textContent, done: page.hidden,
});
"#;

const PRESSES: &str = r#"
const before = state();
await press({ preventDefault() {} });
const between = state();
field.value = "a-long-secure-passphrase";
await press({ preventDefault() {} });
console.log(JSON.stringify([before, between, state(), ...sent]));
"#;

#[tokio::test]
async fn the_verification_page_asks_for_the_password_if_there_is_no_session() {
    run(async |app| {
        let page =
            app.anonymous().get("/api/auth/verify-email?token=x").await.assert_status(200).text;
        assert!(page.contains("<label hidden>"), "{page}");
        assert!(page.contains(r#"<input name="password" type="password""#), "{page}");
        let (_, script) = page.split_once("<script>").unwrap();
        let (script, _) = script.split_once("</script>").unwrap();
        let program = format!("{BROWSER}{script}{PRESSES}");
        let Some(seen) = run_program("node", &["--input-type=module", "-e", &program]) else {
            return;
        };
        let asks = |state: &Value| (state["asked"].clone(), state["enabled"].clone());
        assert_eq!(asks(&seen[0]), (json!(false), json!(false)));
        let between = json!({
            "asked": true, "enabled": true, "focused": true, "pressable": true, "outcome": "",
            "done": false,
        });
        assert_eq!(seen[1], between);
        assert_eq!(seen[2]["outcome"], "E-mail address verified");
        assert_eq!(seen[2]["done"], true);
        assert_eq!(seen[3], json!({ "token": "tnt_link_x" }));
        let with_password =
            json!({ "token": "tnt_link_x", "password": "a-long-secure-passphrase" });
        assert_eq!(seen[4], with_password);
    })
    .await;
}
