//! `tenantry key …`: looks at the text of keys, and at what digests them.

use crate::commands::migrate::{configuration, with_app};
use crate::commands::{Failure, say};
use crate::config::env::Env;
use crate::config::keys::key_format;
use crate::model::key_format::KeyFormat;
use crate::repo::keys;

/// Says whether `text` (or, for `-`, standard input) is a well-formed key of this deployment.
///
/// # Errors
/// Where it is not, or `KEY_PREFIX` is wrong.
pub fn check(text: &str) -> Result<(), Failure> {
    let mut typed = String::new();
    if text == "-" {
        std::io::stdin().read_line(&mut typed)?;
    }
    let text = if text == "-" { typed.trim() } else { text };
    let format = format()?;
    let Some(display_id) = format.display_id(text) else {
        let prefix = format.prefix();
        return Err(Failure::Refused(format!(
            "not a key of this deployment: a key is {prefix} and 49 letters and digits, \
             the last 6 of which are a checksum of the rest"
        )));
    };
    say(&format!(
        "well-formed, display_id {display_id}; whether it is known, only the server can say\n"
    ))
}

/// Prints the regular expression for secret scanners.
///
/// # Errors
/// Where `KEY_PREFIX` is wrong.
pub fn pattern() -> Result<(), Failure> {
    say(&format!("{}\n", format()?.pattern()))
}

/// Counts the live keys that each pepper digests. One that digests none can be taken out of
/// `KEY_PEPPERS`.
///
/// # Errors
/// A wrong configuration, a database that does not answer.
pub fn peppers() -> Result<(), Failure> {
    let config = configuration()?;
    let known: Vec<String> = config.keys.peppers.iter().map(|it| it.id.clone()).collect();
    let counts = with_app(config, async |app| {
        Ok(app.db.run(async |db| keys::count_per_pepper(db).await).await?)
    })?;
    for id in &known {
        let count = counts.iter().find(|(counted, _)| counted == id).map_or(0, |(_, count)| *count);
        say(&format!("{id}: {count} live keys\n"))?;
    }
    for (id, count) in counts.iter().filter(|(id, _)| !known.contains(id)) {
        say(&format!("{id}: {count} live keys that can not be checked: it is not configured\n"))?;
    }
    Ok(())
}

fn format() -> Result<KeyFormat, Failure> {
    let mut env = Env::of_process();
    let format = key_format(&mut env);
    env.problems()?;
    Ok(format)
}
