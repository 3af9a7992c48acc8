//! Who may sign up.

use crate::config::env::{Env, check_unquoted};
use crate::model::ValidationError;
use crate::model::secret::Secret;

/// Who may sign up.
pub enum SignupSettings {
    /// Anyone may sign up.
    Open,
    /// No one may sign up.
    Closed,
    /// Only requests with this token, which the operator's own service sends after its checks.
    Gated(Secret),
}

enum Mode {
    Open,
    Closed,
    Gated,
}

impl SignupSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let token = env.optional("SIGNUP_TOKEN", parse_token);
        if token.is_some() && !env.is_set("SIGNUP_MODE") {
            env.add_problem(
                "SIGNUP_MODE",
                "must be set when SIGNUP_TOKEN is set; gated requires the token",
            );
        }
        match (env.optional("SIGNUP_MODE", parse_mode), token) {
            (None | Some(Mode::Open), _) => Self::Open,
            (Some(Mode::Closed), _) => Self::Closed,
            (Some(Mode::Gated), Some(token)) => Self::Gated(token),
            (Some(Mode::Gated), None) => {
                if !env.is_set("SIGNUP_TOKEN") {
                    env.add_problem("SIGNUP_TOKEN", "must be set when SIGNUP_MODE is gated");
                }
                Self::Closed
            }
        }
    }
}

fn parse_mode(text: &str) -> Result<Mode, ValidationError> {
    match text {
        "open" => Ok(Mode::Open),
        "closed" => Ok(Mode::Closed),
        "gated" => Ok(Mode::Gated),
        _ => Err("must be open, closed or gated".into()),
    }
}

fn parse_token(text: &str) -> Result<Secret, ValidationError> {
    let text = check_unquoted(text)?;
    if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be at least 16 visible ASCII characters".into());
    }
    Ok(Secret::new(text.to_owned()))
}
