//! Scopes, the scopes that each of them covers, and the list of those that a deployment knows.
//!
//! Covering is a partial order. `*` covers every scope, `projects:*` covers every `projects:`
//! scope, and `api-keys:manage` covers `api-keys:read` and `api-keys:write`. A key can only create
//! keys with scopes that its own scopes cover.

use std::collections::HashSet;
use std::fmt;

use crate::model::ValidationError;

macro_rules! built_in_scopes {
    ($($name:ident = $text:literal;)*) => {
        /// A scope that every deployment knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BuiltInScope {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl BuiltInScope {
            /// Every built-in scope.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the scope as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

built_in_scopes! {
    UserRead = "user:read";
    UserWrite = "user:write";
    ApiKeysRead = "api-keys:read";
    ApiKeysWrite = "api-keys:write";
    ApiKeysManage = "api-keys:manage";
    OrganizationRead = "organization:read";
    OrganizationWrite = "organization:write";
    MembersRead = "members:read";
    MembersWrite = "members:write";
    ProjectsRead = "projects:read";
    ProjectsWrite = "projects:write";
    BillingRead = "billing:read";
    SubscriptionRead = "subscription:read";
    SubscriptionWrite = "subscription:write";
    UsageRead = "usage:read";
    AuditRead = "audit:read";
    AppsRead = "apps:read";
    AppsWrite = "apps:write";
    SsoRead = "sso:read";
    SsoWrite = "sso:write";
}

impl fmt::Display for BuiltInScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One scope: `*`, `word:*` or `word:word`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(String);

impl Scope {
    /// Parses a scope, which this deployment need not know.
    ///
    /// # Errors
    /// The text has none of the three forms, or is longer than 64 bytes.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let is_well_formed = text == "*"
            || text
                .split_once(':')
                .is_some_and(|(subject, verb)| is_word(subject) && (verb == "*" || is_word(verb)));
        if is_well_formed && text.len() <= 64 {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be * or two words of a-z, 0-9 and -, such as projects:read".into())
        }
    }

    /// Returns the scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the scope covers others by a `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.ends_with('*')
    }

    /// Returns whether this scope covers `other`.
    #[must_use]
    pub fn covers(&self, other: &str) -> bool {
        let (this, subject) = (self.0.as_str(), other.split(':').next());
        this == "*"
            || this == other
            || this.strip_suffix(":*").is_some_and(|word| Some(word) == subject)
            || (this == "api-keys:manage" && matches!(other, "api-keys:read" | "api-keys:write"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scopes of one credential, in the order in which they were given. A new set is never empty:
/// an empty one would cover no scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Returns the set of `*`, which covers every scope.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![Scope("*".to_owned())])
    }

    /// Creates a set from the database's column. Texts that do not parse are ignored.
    #[must_use]
    pub fn from_stored(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| Scope::parse(text).ok()).collect())
    }

    /// Returns the value of the database's column.
    #[must_use]
    pub fn to_stored(&self) -> Vec<String> {
        self.0.iter().map(|scope| scope.0.clone()).collect()
    }

    /// Returns whether a credential with this set has `scope`.
    #[must_use]
    pub fn grants(&self, scope: BuiltInScope) -> bool {
        self.covers(scope.as_str())
    }

    /// Returns those of `scopes` that this set does not cover.
    #[must_use]
    pub fn missing(&self, scopes: &[Scope]) -> Vec<String> {
        let missing = scopes.iter().filter(|scope| !self.covers(scope.as_str()));
        missing.map(ToString::to_string).collect()
    }

    /// Returns whether a scope of this set covers `scope`.
    #[must_use]
    pub fn covers(&self, scope: &str) -> bool {
        self.0.iter().any(|own| own.covers(scope))
    }

    /// Returns the scopes of this set that are permitted. Replaces each of the others with the
    /// widest permitted scopes of the catalogue that it covers.
    #[must_use]
    pub fn within_role(
        &self,
        catalogue: &ScopeCatalogue,
        is_permitted: impl Fn(&Scope) -> bool,
    ) -> Vec<String> {
        let known = catalogue.0.iter().map(|word| Scope(word.clone()));
        let known: Vec<Scope> =
            known.filter(|it| self.covers(it.as_str()) && is_permitted(it)).collect();
        let own: Vec<&Scope> = self.0.iter().filter(|it| is_permitted(it)).collect();
        let is_covered = |scope: &Scope, by: &Scope| by != scope && by.covers(scope.as_str());
        let added = known.iter().filter(|scope| {
            !own.iter().any(|it| it.covers(scope.as_str()))
                && !known.iter().any(|it| is_covered(scope, it))
        });
        own.iter().copied().chain(added).map(ToString::to_string).collect()
    }

    /// Returns the scopes of `other` that this set does not cover.
    #[must_use]
    pub fn uncovered(&self, other: &Self) -> Vec<String> {
        self.missing(&other.0)
    }

    /// Returns whether this set covers every scope of `other`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.uncovered(other).is_empty()
    }
}

/// The scopes that keys of this deployment can have: the built-in ones, the operator's, and the
/// wildcards of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeCatalogue(Vec<String>);

impl ScopeCatalogue {
    /// Creates the catalogue of the built-in scopes and these of the operator's product.
    #[must_use]
    pub fn new(operators: &[Scope]) -> Self {
        let mut words: Vec<String> = BuiltInScope::ALL.iter().map(ToString::to_string).collect();
        words.extend(operators.iter().map(|scope| scope.0.clone()));
        let mut known = vec!["*".to_owned()];
        let mut seen: HashSet<String> = HashSet::new();
        for word in words {
            let subject = word.split(':').next().unwrap_or_default().to_owned();
            if seen.insert(word.clone()) && !word.ends_with('*') {
                known.push(word);
            }
            if seen.insert(subject.clone()) {
                known.push(format!("{subject}:*"));
            }
        }
        known.sort_unstable();
        Self(known)
    }

    /// Returns every scope that a key can have.
    #[must_use]
    pub fn allowed(&self) -> &[String] {
        &self.0
    }

    /// Parses the scopes of a new key.
    ///
    /// # Errors
    /// The list is empty, or contains an unknown scope or a duplicate. The error for an unknown
    /// scope lists the allowed ones.
    pub fn parse(&self, words: &[String]) -> Result<ScopeSet, ValidationError> {
        if words.is_empty() {
            return Err("must contain at least one scope".into());
        }
        let is_unknown = |word: &String| self.0.binary_search(word).is_err();
        if let Some(at) = words.iter().position(is_unknown) {
            let (at, allowed) = (at + 1, self.0.join(", "));
            return Err(
                format!("names an unknown scope (item {at}); allowed are: {allowed}").into()
            );
        }
        if words.iter().collect::<HashSet<_>>().len() < words.len() {
            return Err("names a scope twice".into());
        }
        Ok(ScopeSet(words.iter().cloned().map(Scope).collect()))
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    fn known() -> Vec<String> {
        ScopeCatalogue::new(&[]).0
    }

    /// Returns sets of at most 3 scopes. Nearly every larger set would cover everything.
    fn any_set() -> impl Strategy<Value = ScopeSet> {
        let catalogue = ScopeCatalogue::new(&[Scope::parse("trademarks:read").expect("a scope")]);
        let words: Vec<String> = catalogue.0;
        subsequence(words, 1..=3).prop_map(|words| ScopeSet(words.into_iter().map(Scope).collect()))
    }

    proptest! {
        #[test]
        fn a_set_contains_itself(set in any_set()) {
            prop_assert!(set.contains(&set));
        }

        #[test]
        fn containment_is_transitive(a in any_set(), b in any_set(), c in any_set()) {
            if a.contains(&b) && b.contains(&c) {
                prop_assert!(a.contains(&c));
            }
        }

        #[test]
        fn sets_that_contain_each_other_cover_the_same_scopes(a in any_set(), b in any_set()) {
            if a.contains(&b) && b.contains(&a) {
                for scope in ScopeCatalogue::new(&[]).allowed() {
                    prop_assert_eq!(a.covers(scope), b.covers(scope));
                }
            }
        }

        #[test]
        fn a_subset_never_covers_more_than_the_set(whole in any_set(), scope in select(known())) {
            let part = ScopeSet(whole.0[..1].to_vec());
            prop_assert!(!part.covers(&scope) || whole.covers(&scope));
        }

        #[test]
        fn parsing_a_scope_never_panics(text in "\\PC*") {
            let _ = Scope::parse(&text);
        }
    }

    #[test]
    fn wildcards_and_manage_cover_their_scopes_and_no_others() {
        let set = |word: &str| ScopeSet(vec![Scope::parse(word).expect("a scope")]);
        assert!(set("projects:*").covers("projects:write"));
        assert!(!set("projects:*").covers("members:read"));
        assert!(set("api-keys:manage").covers("api-keys:write"));
        assert!(!set("api-keys:manage").contains(&set("api-keys:*")));
        assert!(!set("projects:read").contains(&set("projects:*")));
        assert!(!set("projects:*").contains(&set("*")));
    }

    #[test]
    fn every_built_in_scope_and_wildcard_is_allowed() {
        let catalogue = ScopeCatalogue::new(&[]);
        for word in BuiltInScope::ALL {
            assert!(catalogue.parse(&[word.to_string()]).is_ok(), "{word}");
        }
        assert!(catalogue.parse(&["projects:*".to_owned(), "*".to_owned()]).is_ok());
    }
}
