//! What an identity provider states about a person.

use serde_json::{Map, Value};

use crate::model::email::Email;
use crate::model::names::PersonName;
use crate::model::role::Role;
use crate::model::sso::connection::RoleMapping;

/// The maximum length of a subject, in bytes (`OpenID` Connect Core §2).
const MAX_SUBJECT_BYTES: usize = 255;

/// The identity that a valid ID token proves, and what else the provider states.
#[derive(Clone, Debug)]
pub struct ProviderIdentity {
    /// The provider's own id of the person. It alone identifies the person; an e-mail address never
    /// does.
    pub subject: String,
    claims: Map<String, Value>,
}

impl ProviderIdentity {
    /// Creates the identity of a subject with these other claims.
    ///
    /// # Errors
    /// The subject is empty, too long, or contains control characters.
    pub fn new(subject: String, claims: Map<String, Value>) -> Result<Self, &'static str> {
        let has_valid_length = (1..=MAX_SUBJECT_BYTES).contains(&subject.len());
        if !has_valid_length || subject.contains(char::is_control) {
            return Err("the subject of the ID token is empty, too long or not plain text");
        }
        Ok(Self { subject, claims })
    }

    /// Adds the claims of the userinfo response that the ID token lacks.
    ///
    /// # Errors
    /// The response is about another subject.
    pub fn add_userinfo(&mut self, userinfo: Map<String, Value>) -> Result<(), &'static str> {
        if userinfo.get("sub").and_then(Value::as_str) != Some(&self.subject) {
            return Err("the userinfo response is about another subject");
        }
        for (name, value) in userinfo {
            self.claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Returns the e-mail address; `None` if there is none, or it is not valid.
    #[must_use]
    pub fn email(&self) -> Option<Email> {
        Email::parse(self.claims.get("email")?.as_str()?).ok()
    }

    /// Returns whether the provider states that the address is not the person's. Only `true` and
    /// `"true"` mean that it is. Several providers never state it: that the organization has proven
    /// the address's domain must be sufficient then.
    #[must_use]
    pub fn is_email_disputed(&self) -> bool {
        match self.claims.get("email_verified") {
            None => false,
            Some(Value::Bool(is_verified)) => !is_verified,
            Some(Value::String(text)) => text != "true",
            Some(_) => true,
        }
    }

    /// Returns the domain of the organization at Google that manages the account (`hd`); `None` for
    /// a private account.
    #[must_use]
    pub fn google_domain(&self) -> Option<&str> {
        self.claims.get("hd")?.as_str()
    }

    /// Returns the display name; `None` if there is none that an account can have.
    #[must_use]
    pub fn name(&self) -> Option<PersonName> {
        PersonName::parse(self.claims.get("name")?.as_str()?).ok()
    }

    /// Returns the highest role that a mapping gives; `None` if none applies. A claim matches if it
    /// is the value, or a list that contains it.
    #[must_use]
    pub fn mapped_role(&self, mapping: &[RoleMapping]) -> Option<Role> {
        let has = |claim: &Value, value: &str| match claim {
            Value::String(text) => text == value,
            Value::Array(items) => items.iter().any(|item| item.as_str() == Some(value)),
            _ => false,
        };
        let matching = mapping
            .iter()
            .filter(|rule| self.claims.get(&rule.claim).is_some_and(|it| has(it, &rule.value)));
        matching.map(|rule| rule.role).max()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(claims: Value) -> ProviderIdentity {
        let Value::Object(claims) = claims else { panic!("an object") };
        ProviderIdentity::new("s".to_owned(), claims).expect("an identity")
    }

    #[test]
    fn only_true_states_that_an_address_is_verified_and_silence_states_nothing() {
        for value in [json!(true), json!("true")] {
            assert!(!identity(json!({ "email_verified": value })).is_email_disputed());
        }
        assert!(!identity(json!({})).is_email_disputed());
        let others = [json!(false), json!("false"), json!("True"), json!(1), json!(0), json!(null)];
        for value in others {
            assert!(identity(json!({ "email_verified": value })).is_email_disputed(), "{value}");
        }
    }

    #[test]
    fn the_highest_role_of_the_claims_that_match_exactly_applies() {
        let map = |claim: &str, value: &str, role| RoleMapping {
            claim: claim.to_owned(),
            value: value.to_owned(),
            role,
        };
        let mapping = [
            map("groups", "staff", Role::Member),
            map("groups", "it", Role::Admin),
            map("role", "chief", Role::Owner),
        ];
        let role = |claims: Value| identity(claims).mapped_role(&mapping);
        assert_eq!(role(json!({ "groups": ["staff", "it"] })), Some(Role::Admin));
        assert_eq!(role(json!({ "groups": "it", "role": "chief" })), Some(Role::Owner));
        for claims in [
            json!({}),
            json!({ "groups": ["IT", "it ", ["it"], { "it": true }] }),
            json!({ "groups": { "it": true } }),
            json!({ "groups": "staff,it" }),
            json!({ "roles": ["chief"] }),
        ] {
            assert_eq!(role(claims.clone()), None, "{claims}");
        }
    }

    #[test]
    fn the_userinfo_response_adds_claims_of_the_same_subject_and_replaces_none() {
        let mut one = identity(json!({ "email": "ann@example.com" }));
        let Value::Object(other) = json!({ "sub": "t", "email": "eve@example.com" }) else {
            panic!("an object")
        };
        assert!(one.add_userinfo(other.clone()).is_err());
        assert!(one.add_userinfo(Map::new()).is_err());
        let mut own = other;
        own.insert("sub".to_owned(), json!("s"));
        own.insert("name".to_owned(), json!("Ann"));
        one.add_userinfo(own).expect("of the same subject");
        assert_eq!(one.email().expect("an address").as_str(), "ann@example.com");
        assert_eq!(one.name().expect("a name").as_str(), "Ann");
    }

    #[test]
    fn only_an_account_that_an_organization_manages_at_google_states_its_domain() {
        assert_eq!(identity(json!({ "hd": "acme.example" })).google_domain(), Some("acme.example"));
        for claims in [json!({}), json!({ "hd": null }), json!({ "hd": ["acme.example"] })] {
            assert_eq!(identity(claims).google_domain(), None);
        }
    }
}
