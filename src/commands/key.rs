//! `tenantry key check`, `pattern` and `peppers`: the format of keys, and the use of peppers.

use crate::commands::setup::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::config::accounts::token_format;
use crate::config::env::Env;
use crate::config::http::HttpSettings;
use crate::config::keys::key_format;
use crate::entropy::SystemEntropy;
use crate::model::key_format::KeyFormat;
use crate::repo::keys;

/// Checks whether `text` (or, for `-`, standard input) is a well-formed key of this deployment.
///
/// # Errors
/// The text is not a well-formed key, or `KEY_PREFIX` or `PAT_PREFIX` is invalid.
pub fn check(text: &str) -> Result<(), Failure> {
    let mut input = String::new();
    if text == "-" {
        std::io::stdin().read_line(&mut input)?;
    }
    let text = if text == "-" { input.trim() } else { text };
    let formats = formats()?;
    let Some(display_id) = formats.iter().find_map(|format| format.display_id(text)) else {
        let [keys, tokens] = formats.each_ref().map(KeyFormat::prefix);
        return Err(Failure::Message(format!(
            "not a key of this deployment: a key is {keys} or {tokens} followed by 49 letters and \
             digits, the last 6 of which are a checksum of everything before them"
        )));
    };
    print(&format!(
        "well-formed, display_id {display_id}; whether the key exists is not checked offline\n"
    ))
}

/// Prints a regular expression for secret scanners, which matches keys and personal access tokens.
///
/// # Errors
/// `KEY_PREFIX` or `PAT_PREFIX` is invalid.
pub fn pattern() -> Result<(), Failure> {
    print(&format!("{}\n", KeyFormat::pattern(&formats()?)))
}

/// Prints what GitHub's secret scanning partner program asks for: for keys and for personal access
/// tokens a type, a regular expression and an example, and the URL of the webhook. The examples
/// have the right form and checksum, but no such keys exist.
///
/// # Errors
/// `KEY_PREFIX`, `PAT_PREFIX` or `PUBLIC_URL` is invalid.
pub fn github_form() -> Result<(), Failure> {
    let mut env = Env::from_process();
    let formats = [key_format(&mut env), token_format(&mut env)];
    let public_url = HttpSettings::read(&mut env).public_url;
    env.check_problems()?;
    for (format, name) in formats.iter().zip(["API key", "personal access token"]) {
        let token_type = format.prefix().trim_end_matches('_');
        let pattern = KeyFormat::pattern(std::slice::from_ref(format));
        let example = format.generate(&SystemEntropy);
        let example = example.expose();
        print(&format!(
            "Type: {token_type} ({name})\nRegular expression: {pattern}\nExample: {example}\n\n"
        ))?;
    }
    let public_url = public_url.as_str().trim_end_matches('/');
    print(&format!(
        "Webhook: {public_url}/webhooks/github/secret-scanning\n\
         Checksum: the last 6 characters are the CRC-32 (as in gzip) of all characters before \
         them, in base62 (0-9, A-Z, a-z), padded with zeros on the left.\n\
         Contact: secret-scanning@github.com\n"
    ))
}

/// Prints the number of live keys and personal access tokens that each pepper digests. Sessions and
/// audit events, which need their pepper too, are not counted: the README says when a pepper can be
/// removed from `KEY_PEPPERS`.
///
/// # Errors
/// The configuration is invalid, or the database does not respond.
pub fn peppers() -> Result<(), Failure> {
    let config = load_config()?;
    let configured: Vec<String> = config.keys.peppers.iter().map(|it| it.id.clone()).collect();
    let counts = with_app(config, async |app| {
        Ok(app.db.run(async |db| keys::count_per_pepper(db).await).await?)
    })?;
    for id in &configured {
        let count = counts.iter().find(|(other, _)| other == id).map_or(0, |(_, count)| *count);
        print(&format!("{id}: {count} live keys and personal access tokens\n"))?;
    }
    for (id, count) in counts.iter().filter(|(id, _)| !configured.contains(id)) {
        print(&format!(
            "{id}: {count} live keys and personal access tokens that cannot be verified, because \
             KEY_PEPPERS lacks {id}\n"
        ))?;
    }
    Ok(())
}

/// Returns the formats of keys and of personal access tokens.
fn formats() -> Result<[KeyFormat; 2], Failure> {
    let mut env = Env::from_process();
    let formats = [key_format(&mut env), token_format(&mut env)];
    env.check_problems()?;
    Ok(formats)
}
