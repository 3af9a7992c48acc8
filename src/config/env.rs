//! Reads variables and remembers what was wrong with them.

use std::collections::{BTreeSet, HashMap};

use crate::config::ConfigError;
use crate::model::ValidationError;

type Source<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// A source of variables, and the problems met so far.
pub struct Env<'a> {
    source: Source<'a>,
    defaults: HashMap<String, String>,
    names: BTreeSet<&'static str>,
    problems: Vec<(&'static str, String)>,
}

impl<'a> Env<'a> {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        // What is no UTF-8 is set all the same: to something that no setting takes.
        Self::from_source(|name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// Variables from anywhere.
    pub fn from_source(source: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self {
            source: Box::new(source),
            defaults: HashMap::new(),
            names: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Values for variables that are not set.
    #[must_use]
    pub fn with_defaults(mut self, defaults: HashMap<String, String>) -> Self {
        self.defaults = defaults;
        self
    }

    /// The variable as `parse` reads it; `None` where it is not set, or broken (then noted).
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

    /// Whether the variable is set to anything.
    pub fn is_set(&mut self, name: &'static str) -> bool {
        self.lookup(name).is_some()
    }

    /// Notes a problem with a variable.
    pub fn add_problem(&mut self, name: &'static str, problem: impl Into<String>) {
        self.problems.push((name, problem.into()));
    }

    /// Every variable that was asked for.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<&'static str> {
        &self.names
    }

    /// Fails where any problem was noted.
    ///
    /// # Errors
    /// All of them.
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

const QUOTED_MESSAGE: &str = "must not be in quotes: docker --env-file and kubectl \
                              --from-env-file keep them as a part of the value";
const QUOTES: [char; 2] = ['"', '\''];

/// Whether the whole text stands in quotes.
fn is_quoted(text: &str) -> bool {
    QUOTES.iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

/// Reads a secret that callers send, or that a signature is made with.
///
/// # Errors
/// A secret that begins or ends with a quote, which is a part of no generated one: it was written
/// around it, and would never match.
pub fn check_unquoted(secret: &str) -> Result<&str, ValidationError> {
    if secret.starts_with(QUOTES) || secret.ends_with(QUOTES) {
        return Err(QUOTED_MESSAGE.into());
    }
    Ok(secret)
}
