//! The members of a body, taken out one by one; what is wrong with any is noted, not thrown.

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::error::{Error, Issue, Result};
use crate::http::body::{JsonNode, text};
use crate::model::ValidationError;
use crate::model::timestamp;

/// What fields are judged by beside their own form: what is configured, and what time it is.
#[derive(Clone, Copy)]
pub struct FieldContext<'a> {
    /// What the operator configured.
    pub config: &'a Config,
    /// When the request came.
    pub now: DateTime<Utc>,
}

/// A wire struct that a body is read into.
pub trait FromFields: Sized {
    /// Takes every field the route knows; `None` where one was refused, which is noted.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The members of a body that were not taken yet, and the issues met so far.
pub struct Fields<'a> {
    /// What fields are judged by beside their own form.
    pub context: FieldContext<'a>,
    members: Vec<(String, JsonNode)>,
    issues: Vec<Issue>,
    deferred: Vec<Issue>,
}

impl<'a> Fields<'a> {
    /// The members of a body.
    #[must_use]
    pub fn new(members: Vec<(String, JsonNode)>, rules: FieldContext<'a>) -> Self {
        Self { context: rules, members, issues: Vec::new(), deferred: Vec::new() }
    }

    /// The optional field `name` of something new, as `parse` reads it. `None` where it is left
    /// out, null, or refused. For fields of an update: [`Self::non_null`], [`Self::nullable`].
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        self.nullable(name, parse).flatten()
    }

    /// The field `name` of an update, as `parse` reads it. `None` where it is left out or refused.
    /// Null is refused like any value of a wrong type: what it would clear can not be cleared.
    pub fn non_null<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let node = self.take(name)?;
        self.parse(name, node, parse)
    }

    /// The field `name` of an update, as `parse` reads it; `Some(None)` where it is null, which
    /// says that there is to be none.
    pub fn nullable<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<Option<T>> {
        match self.take(name)? {
            JsonNode::Null => Some(None),
            node => self.parse(name, node, parse).map(Some),
        }
    }

    /// The time `name`, which must be after the request's own. That it has passed is a late issue:
    /// a request that comes again after a while is still the same request.
    pub fn future_time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let time = self.optional(name, text(timestamp::parse));
        self.defer_if_past(name, time);
        time
    }

    /// The same, where null says that there is to be none.
    pub fn nullable_future_time(&mut self, name: &'static str) -> Option<Option<DateTime<Utc>>> {
        let time = self.nullable(name, text(timestamp::parse));
        self.defer_if_past(name, time.flatten());
        time
    }

    fn defer_if_past(&mut self, name: &'static str, time: Option<DateTime<Utc>>) {
        if time.is_some_and(|time| time <= self.context.now) {
            self.deferred.push(Issue::field(name, "must be in the future"));
        }
    }

    /// Whether there is no member at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Notes an issue of one field that shows only beside others.
    pub fn add_issue(&mut self, name: &'static str, ValidationError(why): ValidationError) {
        self.issues.push(Issue::field(name, why));
    }

    /// Notes an issue of the body as a whole.
    pub fn add_body_issue(&mut self, message: &'static str) {
        self.issues.push(Issue::body(message));
    }

    /// The field `name` as `parse` reads it. `None` where it was refused or is not there, which
    /// is an issue.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        if let Some(node) = self.take(name) {
            return self.parse(name, node, parse);
        }
        self.issues.push(Issue::field(name, "is required"));
        None
    }

    /// The required field `name`: one of these words.
    pub fn required_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(T, &'static str)],
    ) -> Option<T> {
        let word = self.take(name).and_then(|node| node.into_string().ok()).unwrap_or_default();
        let chosen = choices.iter().find(|(_, choice)| *choice == word);
        if chosen.is_none() {
            let allowed = choices.iter().map(|(_, choice)| *choice).collect();
            self.issues.push(Issue::one_of(name, allowed));
        }
        chosen.map(|(chosen, _)| *chosen)
    }

    /// Fails where any issue was met, or members are left that no field is for. Late issues alone
    /// are given back: they are judged when it is known that the request is not a repetition.
    ///
    /// # Errors
    /// Invalid, with every issue.
    pub fn finish(mut self) -> Result<Vec<Issue>> {
        for (name, _) in self.members {
            let name: String = name.chars().take(64).collect();
            self.issues.push(Issue::field(name, "is not a field of this request"));
        }
        if self.issues.is_empty() {
            return Ok(self.deferred);
        }
        self.issues.append(&mut self.deferred);
        Err(Error::invalid(self.issues))
    }

    fn parse<T>(
        &mut self,
        name: &'static str,
        node: JsonNode,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        parse(node).map_err(|ValidationError(why)| self.issues.push(Issue::field(name, why))).ok()
    }

    /// Takes the field out; one that is there twice is an issue.
    fn take(&mut self, name: &'static str) -> Option<JsonNode> {
        let at = self.members.iter().position(|(found, _)| found == name)?;
        let (_, node) = self.members.remove(at);
        let others = self.members.len();
        self.members.retain(|(found, _)| found != name);
        if self.members.len() < others {
            self.issues.push(Issue::field(name, "is there more than once"));
        }
        Some(node)
    }
}
