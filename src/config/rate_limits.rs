//! The rate limit settings: a profile, and the operator's overrides.

use serde_json::Value;

use crate::config::env::Env;
use crate::config::unique_object::UniqueObject;
use crate::model::ValidationError;
use crate::model::rate::Rate;
use crate::model::rate_limit::RateLimit;

/// The setting of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitSetting {
    /// The rate.
    pub rate: Rate,
    /// Whether requests beyond the rate are accepted and only counted in the metrics.
    pub only_observed: bool,
}

/// The settings of all limits.
#[derive(Debug)]
pub struct RateLimitSettings {
    /// Whether rate limits apply at all.
    pub is_on: bool,
    /// Whether the operator set `LIMITS`.
    pub has_overrides: bool,
    /// The settings, in the order of [`RateLimit::ALL`].
    settings: [RateLimitSetting; RateLimit::ALL.len()],
}

#[derive(Clone, Copy)]
enum Profile {
    Usual,
    Strict,
    Off,
}

impl RateLimitSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let profile = env.optional("LIMITS_PROFILE", parse_profile).unwrap_or(Profile::Usual);
        let settings = RateLimit::ALL.map(|limit| {
            let rate = if matches!(profile, Profile::Strict) {
                limit.strict_rate()
            } else {
                limit.default_rate()
            };
            RateLimitSetting { rate, only_observed: false }
        });
        let overridden = env.optional("LIMITS", |text| apply_overrides(text, settings));
        let is_on = !matches!(profile, Profile::Off);
        let has_overrides = overridden.is_some();
        Self { is_on, has_overrides, settings: overridden.unwrap_or(settings) }
    }

    /// Returns the setting of one limit.
    #[must_use]
    pub fn of(&self, limit: RateLimit) -> RateLimitSetting {
        self.settings[limit as usize]
    }
}

fn parse_profile(text: &str) -> Result<Profile, ValidationError> {
    match text {
        "usual" => Ok(Profile::Usual),
        "strict" => Ok(Profile::Strict),
        "off" => Ok(Profile::Off),
        _ => Err("must be usual, strict or off".into()),
    }
}

const FORMAT_MESSAGE: &str =
    r#"must be JSON such as {"sign_in":{"quota":20,"window_s":60,"only_observed":true}}"#;
/// The longest window, in seconds: 31 days.
const MAX_WINDOW_SECONDS: u64 = 31 * 24 * 3_600;
/// The largest quota.
const MAX_QUOTA: u64 = 1_000_000_000;

/// Returns the profile's settings with the operator's overrides.
fn apply_overrides(
    text: &str,
    mut settings: [RateLimitSetting; RateLimit::ALL.len()],
) -> Result<[RateLimitSetting; RateLimit::ALL.len()], ValidationError> {
    let overrides: UniqueObject<UniqueObject<Value>> =
        serde_json::from_str(text).map_err(|error| format!("{FORMAT_MESSAGE}: {error}"))?;
    for (name, UniqueObject(fields)) in &overrides.0 {
        let limit = RateLimit::ALL.into_iter().find(|limit| limit.as_str() == name);
        let limit = limit.ok_or_else(|| {
            let names = RateLimit::ALL.map(RateLimit::as_str).join(", ");
            format!("must not name the unknown limit {name:?}; the limits are {names}")
        })?;
        let setting = &mut settings[limit as usize];
        for (field, value) in fields {
            let whole = |max: u64| value.as_u64().filter(|number| (1..=max).contains(number));
            match field.as_str() {
                "quota" => {
                    let quota = whole(MAX_QUOTA).and_then(|quota| u32::try_from(quota).ok());
                    setting.rate.quota = quota.ok_or(FORMAT_MESSAGE)?;
                }
                "window_s" => {
                    let seconds = whole(MAX_WINDOW_SECONDS).ok_or(FORMAT_MESSAGE)?;
                    setting.rate.window = std::time::Duration::from_secs(seconds);
                }
                "only_observed" => setting.only_observed = value.as_bool().ok_or(FORMAT_MESSAGE)?,
                _ => return Err(FORMAT_MESSAGE.into()),
            }
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<RateLimitSettings, crate::config::ConfigError> {
        let find =
            |name: &str| pairs.iter().find(|(it, _)| *it == name).map(|(_, it)| (*it).to_owned());
        let mut env = Env::from_source(find);
        let settings = RateLimitSettings::read(&mut env);
        env.check_problems().map(|()| settings)
    }

    #[test]
    fn named_limits_are_overridden_and_the_others_keep_the_profile_s_settings() {
        let overrides =
            r#"{"sign_in":{"quota":7},"key_mint":{"window_s":60,"only_observed":true}}"#;
        let settings =
            read(&[("LIMITS", overrides), ("LIMITS_PROFILE", "strict")]).expect("settings");
        let strict = RateLimit::SignIn.strict_rate();
        assert_eq!(settings.of(RateLimit::SignIn).rate, Rate { quota: 7, ..strict });
        assert!(settings.of(RateLimit::KeyMint).only_observed);
        assert_eq!(
            settings.of(RateLimit::KeyMint).rate,
            Rate::new(RateLimit::KeyMint.strict_rate().quota, 60)
        );
        assert_eq!(settings.of(RateLimit::Address).rate, RateLimit::Address.strict_rate());
        let usual = read(&[]).expect("settings");
        assert!(
            usual.is_on && usual.of(RateLimit::Address).rate == RateLimit::Address.default_rate()
        );
        let off = [("LIMITS_PROFILE", "off"), ("LIMITS", "{}")];
        for (count, has_overrides) in [(1, false), (2, true)] {
            let off = read(&off[..count]).expect("settings");
            assert_eq!((off.is_on, off.has_overrides), (false, has_overrides));
        }
    }

    #[test]
    fn an_unknown_limit_or_setting_is_a_problem() {
        for overrides in [
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
            assert!(read(&[("LIMITS", overrides)]).is_err(), "{overrides}");
        }
        assert!(read(&[("LIMITS_PROFILE", "lax")]).is_err());
    }
}
