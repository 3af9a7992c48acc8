//! How often things may be done: a profile, and what the operator changes of it.

use serde_json::Value;

use crate::config::env::Env;
use crate::config::members::Members;
use crate::model::Invalid;
use crate::model::limit::Limit;
use crate::model::rate::Rate;

/// What is done about one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How often.
    pub rate: Rate,
    /// Whether who is over it is only counted, and let through.
    pub only_observed: bool,
}

/// What is done about every limit.
#[derive(Debug)]
pub struct LimitSettings {
    /// Whether rates are limited at all.
    pub is_on: bool,
    /// Whether the operator changed single limits.
    pub is_changed: bool,
    /// In the order of [`Limit::ALL`].
    settings: [Setting; Limit::ALL.len()],
}

#[derive(Clone, Copy)]
enum Profile {
    Usual,
    Strict,
    Off,
}

impl LimitSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let profile = env.optional("LIMITS_PROFILE", parse_profile).unwrap_or(Profile::Usual);
        let settings = Limit::ALL.map(|limit| {
            let rate =
                if matches!(profile, Profile::Strict) { limit.strict() } else { limit.usual() };
            Setting { rate, only_observed: false }
        });
        let changed = env.optional("LIMITS", |text| changed(text, settings));
        let is_on = !matches!(profile, Profile::Off);
        let is_changed = changed.is_some();
        Self { is_on, is_changed, settings: changed.unwrap_or(settings) }
    }

    /// What is done about a limit.
    #[must_use]
    pub fn of(&self, limit: Limit) -> Setting {
        self.settings[limit as usize]
    }
}

fn parse_profile(text: &str) -> Result<Profile, Invalid> {
    match text {
        "usual" => Ok(Profile::Usual),
        "strict" => Ok(Profile::Strict),
        "off" => Ok(Profile::Off),
        _ => Err("must be usual, strict or off".into()),
    }
}

const FORM: &str =
    r#"must be JSON such as {"sign_in":{"quota":20,"window_s":60,"only_observed":true}}"#;
/// The longest window, in seconds: 31 days.
const LONGEST: u64 = 31 * 24 * 3_600;
/// The largest quota.
const MOST: u64 = 1_000_000_000;

/// The profile's settings with the operator's changes.
fn changed(
    text: &str,
    mut settings: [Setting; Limit::ALL.len()],
) -> Result<[Setting; Limit::ALL.len()], Invalid> {
    let changes: Members<Members<Value>> =
        serde_json::from_str(text).map_err(|error| format!("{FORM}: {error}"))?;
    for (name, Members(change)) in &changes.0 {
        let limit = Limit::ALL.into_iter().find(|limit| limit.as_str() == name);
        let limit = limit.ok_or_else(|| {
            let names = Limit::ALL.map(Limit::as_str).join(", ");
            format!("names a limit {name:?}; there are {names}")
        })?;
        let setting = &mut settings[limit as usize];
        for (field, value) in change {
            let whole = |most: u64| value.as_u64().filter(|number| (1..=most).contains(number));
            match field.as_str() {
                "quota" => {
                    let quota = whole(MOST).and_then(|quota| u32::try_from(quota).ok());
                    setting.rate.quota = quota.ok_or(FORM)?;
                }
                "window_s" => {
                    let seconds = whole(LONGEST).ok_or(FORM)?;
                    setting.rate.window = std::time::Duration::from_secs(seconds);
                }
                "only_observed" => setting.only_observed = value.as_bool().ok_or(FORM)?,
                _ => return Err(FORM.into()),
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<LimitSettings, crate::config::ConfigError> {
        let of =
            |name: &str| pairs.iter().find(|(it, _)| *it == name).map(|(_, it)| (*it).to_owned());
        let mut env = Env::from(of);
        let settings = LimitSettings::read(&mut env);
        env.problems().map(|()| settings)
    }

    #[test]
    fn what_is_named_is_changed_and_the_rest_is_the_profile_s() {
        let changes = r#"{"sign_in":{"quota":7},"key_mint":{"window_s":60,"only_observed":true}}"#;
        let settings =
            read(&[("LIMITS", changes), ("LIMITS_PROFILE", "strict")]).expect("settings");
        let strict = Limit::SignIn.strict();
        assert_eq!(settings.of(Limit::SignIn).rate, Rate { quota: 7, ..strict });
        assert!(settings.of(Limit::KeyMint).only_observed);
        assert_eq!(settings.of(Limit::KeyMint).rate, Rate::new(Limit::KeyMint.strict().quota, 60));
        assert_eq!(settings.of(Limit::Address).rate, Limit::Address.strict());
        let usual = read(&[]).expect("settings");
        assert!(usual.is_on && usual.of(Limit::Address).rate == Limit::Address.usual());
        let off = [("LIMITS_PROFILE", "off"), ("LIMITS", "{}")];
        for (count, is_changed) in [(1, false), (2, true)] {
            let off = read(&off[..count]).expect("settings");
            assert_eq!((off.is_on, off.is_changed), (false, is_changed));
        }
    }

    #[test]
    fn a_limit_or_setting_that_is_none_is_a_problem() {
        for changes in [
            "[]",
            r#"{"never":{}}"#,
            r#"{"sign_in":5}"#,
            r#"{"sign_in":{"quota":0}}"#,
            r#"{"sign_in":{"quota":-1}}"#,
            r#"{"sign_in":{"window_s":99999999}}"#,
            r#"{"sign_in":{"only_observed":1}}"#,
            r#"{"sign_in":{"burst":1}}"#,
            r#"{"sign_in":{"quota":1},"sign_in":{"window_s":1}}"#,
            r#"{"sign_in":{"quota":1,"quota":2}}"#,
        ] {
            assert!(read(&[("LIMITS", changes)]).is_err(), "{changes}");
        }
        assert!(read(&[("LIMITS_PROFILE", "lax")]).is_err());
    }
}
