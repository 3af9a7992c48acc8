//! Reads environment variables and collects the problems with them.

use std::collections::{BTreeSet, HashMap};

use crate::config::ConfigError;
use crate::model::ValidationError;

type Source<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// A source of variables, and the problems found so far.
pub struct Env<'a> {
    source: Source<'a>,
    defaults: HashMap<String, String>,
    names: BTreeSet<&'static str>,
    problems: Vec<(&'static str, String)>,
}

impl<'a> Env<'a> {
    /// Reads variables from the environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        // A value that is not UTF-8 counts as set. Its invalid bytes become U+FFFD, which no
        // setting with a fixed format accepts.
        Self::from_source(|name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// Reads variables from `source`.
    pub fn from_source(source: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self {
            source: Box::new(source),
            defaults: HashMap::new(),
            names: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Adds values for variables that are not set.
    #[must_use]
    pub fn with_defaults(mut self, defaults: HashMap<String, String>) -> Self {
        self.defaults = defaults;
        self
    }

    /// Returns the parsed variable; `None` if it is not set or invalid. An invalid value is
    /// recorded as a problem.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let text = self.lookup(name)?;
        let text = text.trim();
        let parsed = if is_quoted(text) { Err(QUOTED_MESSAGE.into()) } else { parse(text) };
        parsed.map_err(|ValidationError(why)| self.add_problem(name, why)).ok()
    }

    /// Returns whether the variable is set and not empty.
    pub fn is_set(&mut self, name: &'static str) -> bool {
        self.lookup(name).is_some()
    }

    /// Records a problem with a variable.
    pub fn add_problem(&mut self, name: &'static str, problem: impl Into<String>) {
        self.problems.push((name, problem.into()));
    }

    /// Returns the name of every variable that was looked up.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<&'static str> {
        &self.names
    }

    /// Returns the recorded problems as an error, if there are any.
    ///
    /// # Errors
    /// All recorded problems, which are then cleared.
    pub fn check_problems(&mut self) -> Result<(), ConfigError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(ConfigError(std::mem::take(&mut self.problems)))
    }

    fn lookup(&mut self, name: &'static str) -> Option<String> {
        self.names.insert(name);
        let set = (self.source)(name).filter(|text| !text.trim().is_empty());
        set.or_else(|| self.defaults.get(name).cloned())
    }
}

const QUOTED_MESSAGE: &str = "must not be in quotes, because docker --env-file and kubectl \
                              --from-env-file make them part of the value";
const QUOTES: [char; 2] = ['"', '\''];

/// Returns whether the whole text is in quotes.
fn is_quoted(text: &str) -> bool {
    QUOTES.iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

/// Checks that a secret does not begin or end with a quote.
///
/// # Errors
/// The secret begins or ends with a quote. Generated secrets contain none, so the quotes were
/// written around it, and it would never match.
pub fn check_unquoted(secret: &str) -> Result<&str, ValidationError> {
    if secret.starts_with(QUOTES) || secret.ends_with(QUOTES) {
        return Err(QUOTED_MESSAGE.into());
    }
    Ok(secret)
}
