//! `tenantry key …`: looks at the text of keys, and at what digests them.

use crate::commands::migrate::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::config::accounts::token_format;
use crate::config::env::Env;
use crate::config::keys::key_format;
use crate::model::key_format::KeyFormat;
use crate::repo::keys;

/// Prints whether `text` (or, for `-`, standard input) is a well-formed key of this deployment.
///
/// # Errors
/// A text that is not; an invalid `KEY_PREFIX` or `PAT_PREFIX`.
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
            "not a key of this deployment: a key is {keys} or {tokens} and 49 letters and digits, \
             the last 6 of which are a checksum of the rest"
        )));
    };
    print(&format!(
        "well-formed, display_id {display_id}; only the server can check whether it exists\n"
    ))
}

/// Prints the regular expression for secret scanners: of keys, and of personal tokens.
///
/// # Errors
/// Where `KEY_PREFIX` or `PAT_PREFIX` is wrong.
pub fn pattern() -> Result<(), Failure> {
    print(&format!("{}\n", KeyFormat::pattern(&formats()?)))
}

/// Counts the live keys and personal tokens that each pepper digests. One that digests none can be
/// taken out of `KEY_PEPPERS`.
///
/// # Errors
/// A wrong configuration, a database that does not answer.
pub fn peppers() -> Result<(), Failure> {
    let config = load_config()?;
    let known: Vec<String> = config.keys.peppers.iter().map(|it| it.id.clone()).collect();
    let counts = with_app(config, async |app| {
        Ok(app.db.run(async |db| keys::count_per_pepper(db).await).await?)
    })?;
    for id in &known {
        let count = counts.iter().find(|(counted, _)| counted == id).map_or(0, |(_, count)| *count);
        print(&format!("{id}: {count} live keys\n"))?;
    }
    for (id, count) in counts.iter().filter(|(id, _)| !known.contains(id)) {
        print(&format!("{id}: {count} live keys that can not be checked: it is not configured\n"))?;
    }
    Ok(())
}

/// The formats of keys and of personal tokens.
fn formats() -> Result<[KeyFormat; 2], Failure> {
    let mut env = Env::from_process();
    let formats = [key_format(&mut env), token_format(&mut env)];
    env.check_problems()?;
    Ok(formats)
}
