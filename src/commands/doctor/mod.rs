//! `tenantry doctor`: checks everything that a server needs, and prints what to do about problems.
//! It applies no migration, generates no secret and changes no data. A private Postgres that has
//! data and is not running is started for the checks.

mod addresses;
mod database;
mod definitions;
mod mail;
mod sealing;
mod secrets;
mod settings;

use std::fmt;

use crate::app::mailer::Mailer;
use crate::commands::{Failure, print};

/// The result of one check. `Display` is its line of the output.
pub(super) struct Check {
    subject: &'static str,
    status: CheckStatus,
    /// The result as text, and for warnings and problems, what to do.
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckStatus {
    Ok,
    /// It works, but less reliably or safely than it could.
    Warning,
    /// It does not work, or is not safe.
    Problem,
}

impl Check {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, status: CheckStatus::Ok, text: text.into() }
    }

    fn warning(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, status: CheckStatus::Warning, text: text.into() }
    }

    fn problem(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, status: CheckStatus::Problem, text: text.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            CheckStatus::Ok => "ok",
            CheckStatus::Warning => "warning",
            CheckStatus::Problem => "problem",
        };
        write!(f, "{status:<8}  {:<18}  {}", self.subject, self.text)
    }
}

/// Runs all checks and prints their results.
///
/// # Errors
/// There is at least one problem. Warnings are not errors.
pub fn run() -> Result<(), Failure> {
    let (settings, checks) = settings::read_settings();
    let mut summary = CheckSummary::default();
    summary.report(checks)?;
    summary.report(secrets::check_strength(&settings))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    summary.report(database::checks(&settings, &runtime)?)?;
    if !settings.is_unusable("SMTP_URL") {
        let mailer = Mailer::new(&settings.config.mail, &settings.config.database.data_dir);
        let has_server = settings.config.mail.smtp.is_some();
        summary.report([runtime.block_on(mail::check(&mailer, has_server))])?;
    }
    summary.report(addresses::checks(&settings))?;
    summary.finish()
}

/// The numbers of warnings and problems.
#[derive(Default)]
struct CheckSummary {
    warnings: usize,
    problems: usize,
}

impl CheckSummary {
    fn report(&mut self, checks: impl IntoIterator<Item = Check>) -> Result<(), Failure> {
        for check in checks {
            self.warnings += usize::from(check.status == CheckStatus::Warning);
            self.problems += usize::from(check.status == CheckStatus::Problem);
            print(&format!("{check}\n"))?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Failure> {
        let Self { warnings, problems } = self;
        match (problems, warnings) {
            (0, 0) => print("no problems\n"),
            (0, _) => print(&format!("no problems, {warnings} warnings\n")),
            _ => Err(Failure::Message(format!("{problems} problems, {warnings} warnings"))),
        }
    }
}
