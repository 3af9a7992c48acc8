//! Checks that the sealing keys open every stored client secret of an identity provider.

use sqlx::PgConnection;

use super::Check;
use super::settings::DoctorSettings;
use crate::config::sso::SEALING_KEYS;
use crate::error::Result;
use crate::repo::sso_provider_metadata::count_per_sealing_key;

/// The subject of the check.
pub(super) const SUBJECT: &str = "sealing keys";

/// Checks that every key that sealed a secret is configured, and states which keys are in use.
/// `None` if single sign-on is off, or its keys are not known.
pub(super) async fn check(
    settings: &DoctorSettings,
    db: &mut PgConnection,
) -> Result<Option<Check>> {
    if !settings.config.sso.is_on || settings.is_unusable(SEALING_KEYS) {
        return Ok(None);
    }
    let counts = count_per_sealing_key(db).await?;
    let keys: Vec<&str> = settings.config.sso.sealing_keys.iter().map(|key| &*key.id).collect();
    Ok(Some(compare(&keys, &counts)))
}

/// Compares the configured keys, newest first, with those that sealed secrets.
fn compare(keys: &[&str], counts: &[(String, i64)]) -> Check {
    let name = |(id, count): &(String, i64)| format!("{count} under {id}");
    let missing = counts.iter().filter(|(id, _)| !keys.contains(&id.as_str()));
    let missing: Vec<_> = missing.map(name).collect();
    if !missing.is_empty() {
        let text = format!(
            "some client secrets of identity providers cannot be opened, because SEALING_KEYS \
             lacks their key ({}): add it again, or set these secrets anew",
            missing.join(", ")
        );
        return Check::problem(SUBJECT, text);
    }
    let total: i64 = counts.iter().map(|(_, count)| count).sum();
    let (newest, earlier) =
        keys.split_first().map_or((&"", &[][..]), |(first, rest)| (first, rest));
    let mut parts =
        vec![format!("all {total} client secrets can be opened; {newest} seals new ones")];
    let used: Vec<_> = counts.iter().filter(|(id, _)| id != newest).map(name).collect();
    if !used.is_empty() {
        let used = used.join(", ");
        parts.push(format!(
            "keep the earlier keys until a running server has sealed the others again, which it \
             does hourly ({used})"
        ));
    }
    let is_used = |id: &&&str| counts.iter().any(|(used, _)| used == **id);
    let unused: Vec<&str> = earlier.iter().filter(|id| !is_used(id)).copied().collect();
    if !unused.is_empty() {
        parts.push(format!("no secret needs {} any more: remove it", unused.join(", ")));
    }
    Check::ok(SUBJECT, parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(keys: &[&str], counts: &[(&str, i64)]) -> String {
        let counts: Vec<_> = counts.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect();
        compare(keys, &counts).to_string()
    }

    #[test]
    fn a_key_that_is_needed_and_missing_is_a_problem_and_earlier_keys_are_named() {
        assert!(
            text(&["s1"], &[]).ends_with("all 0 client secrets can be opened; s1 seals new ones")
        );
        let missing = text(&["s2"], &[("s1", 3), ("s2", 1)]);
        assert!(missing.starts_with("problem") && missing.contains("(3 under s1)"), "{missing}");
        let rotating = text(&["s2", "s1"], &[("s1", 3), ("s2", 1)]);
        assert!(rotating.starts_with("ok") && rotating.contains("(3 under s1)"), "{rotating}");
        let finished = text(&["s2", "s1"], &[("s2", 4)]);
        assert!(finished.contains("no secret needs s1 any more"), "{finished}");
        assert!(!finished.contains("keep the earlier keys"), "{finished}");
    }
}
