//! Takes the members out of a body one by one, and collects the issues of all of them.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::error::{Error, Issue, Result};
use crate::http::body::{JsonNode, text};
use crate::model::ValidationError;
use crate::model::timestamp;

/// What fields are validated against: the configuration and the time.
#[derive(Clone, Copy)]
pub struct FieldContext<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// When the request was received.
    pub now: DateTime<Utc>,
}

/// A wire struct that a body is parsed into.
pub trait FromFields: Sized {
    /// The size limit of a body of this type, in bytes.
    const MAX_BODY_BYTES: usize = super::MAX_BODY_BYTES;

    /// Takes every field that the route knows. Returns `None` if one is invalid, after recording an
    /// issue.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The members of a body that were not taken yet, and the issues so far.
pub struct Fields<'a> {
    /// What fields are validated against.
    pub context: FieldContext<'a>,
    members: Vec<(String, JsonNode)>,
    issues: Vec<Issue>,
    deferred: Vec<Issue>,
}

impl<'a> Fields<'a> {
    /// Creates the state from all members of a body.
    #[must_use]
    pub fn new(members: Vec<(String, JsonNode)>, context: FieldContext<'a>) -> Self {
        Self { context, members, issues: Vec::new(), deferred: Vec::new() }
    }

    /// Parses the optional field `name` of an object to create. Returns `None` if the field is
    /// absent, null or invalid. For fields of an update: [`Self::non_null`], [`Self::nullable`].
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        self.nullable(name, parse).flatten()
    }

    /// Parses the field `name` of an update whose value cannot be cleared. Returns `None` if the
    /// field is absent or invalid. Null is invalid.
    pub fn non_null<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let node = self.take(name)?;
        self.parse(name, node, parse)
    }

    /// Parses the field `name` of an update whose value can be cleared. Returns `Some(None)` for
    /// null, which clears it, and `None` if the field is absent or invalid.
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

    /// Parses the optional time `name`, which must be in the future. A time in the past is a
    /// deferred issue: the time may have passed when the request is repeated, and the repetition
    /// must still receive the stored response.
    pub fn future_time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let time = self.optional(name, text(timestamp::parse));
        self.defer_if_past(name, time);
        time
    }

    /// Does the same as [`Self::future_time`] for an update. Null, `Some(None)`, clears the time.
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

    /// Returns whether all members were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns whether the member `name` is there and was not taken yet.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Returns whether the member `name` is there as null, and was not taken yet.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        let is_null = |node: &JsonNode| matches!(node, JsonNode::Null);
        self.members.iter().any(|(member, node)| member == name && is_null(node))
    }

    /// Removes the members with these names without reading them: another issue covers them.
    pub fn ignore(&mut self, names: &[&str]) {
        self.members.retain(|(member, _)| !names.contains(&member.as_str()));
    }

    /// Records an issue of a field, after the field was parsed.
    pub fn add_issue(&mut self, name: &'static str, ValidationError(why): ValidationError) {
        self.issues.push(Issue::field(name, why));
    }

    /// Records an issue of the body as a whole.
    pub fn add_body_issue(&mut self, message: &'static str) {
        self.issues.push(Issue::body(message));
    }

    /// Parses the required field `name`. Returns `None` if it is absent or invalid, after recording
    /// an issue.
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

    /// Parses the required field `name`, whose value must be one of `choices`.
    pub fn required_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(T, &'static str)],
    ) -> Option<T> {
        let node = self.take(name);
        self.choose(name, node, choices)
    }

    /// Parses the optional field `name` of an object to create, whose value must be one of
    /// `choices`. Null counts as absent.
    pub fn optional_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(T, &'static str)],
    ) -> Option<T> {
        match self.take(name)? {
            JsonNode::Null => None,
            node => self.choose(name, Some(node), choices),
        }
    }

    /// Parses the field `name` of an update, whose value must be one of `choices`. Null is invalid.
    pub fn non_null_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(T, &'static str)],
    ) -> Option<T> {
        let node = self.take(name)?;
        self.choose(name, Some(node), choices)
    }

    fn choose<T: Copy>(
        &mut self,
        name: &'static str,
        node: Option<JsonNode>,
        choices: &[(T, &'static str)],
    ) -> Option<T> {
        let word = node.and_then(|node| node.into_string().ok()).unwrap_or_default();
        let chosen = choices.iter().find(|(_, choice)| *choice == word);
        if chosen.is_none() {
            let allowed = choices.iter().map(|(_, choice)| *choice).collect();
            self.issues.push(Issue::one_of(name, allowed));
        }
        chosen.map(|(chosen, _)| *chosen)
    }

    /// Parses the optional field `name`, which is an object with fields of its own.
    pub fn optional_object<T: FromFields>(&mut self, name: &'static str) -> Option<T> {
        match self.take(name)? {
            JsonNode::Null => None,
            node => self.object(&[name.to_owned()], node),
        }
    }

    /// Parses the field `name` of an update, which is an object with fields of its own. Returns
    /// `Some(None)` for null, and `None` if the field is absent or invalid.
    pub fn nullable_object<T: FromFields>(&mut self, name: &'static str) -> Option<Option<T>> {
        match self.take(name)? {
            JsonNode::Null => Some(None),
            node => self.object(&[name.to_owned()], node).map(Some),
        }
    }

    /// Does the same as [`Self::optional_object`] for the field of an update. Null is invalid.
    pub fn non_null_object<T: FromFields>(&mut self, name: &'static str) -> Option<T> {
        let node = self.take(name)?;
        self.object(&[name.to_owned()], node)
    }

    /// Parses the required field `name`, which is a list of objects; `length` is the allowed number
    /// of items.
    pub fn required_objects<T: FromFields>(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<T>> {
        let items = self.required(name, Ok)?;
        self.objects(name, items, length)
    }

    /// Parses the optional field `name`, which is a list of objects; null is as if it was absent.
    pub fn optional_objects<T: FromFields>(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<T>> {
        match self.take(name)? {
            JsonNode::Null => None,
            items => self.objects(name, items, length),
        }
    }

    /// Does the same as [`Self::optional_objects`] for the field of an update. Null is invalid.
    pub fn non_null_objects<T: FromFields>(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<T>> {
        let items = self.take(name)?;
        self.objects(name, items, length)
    }

    /// Parses the required field `name`, a list whose items `parse` parses one by one; `length` is
    /// the allowed number of items. The issue of an item names its index.
    pub fn required_items<T>(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
        parse: impl Fn(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<Vec<T>> {
        let items = self.required(name, Ok)?;
        self.items(name, items, length, parse)
    }

    /// Does the same as [`Self::required_items`] for the field of an update. Null is invalid.
    pub fn non_null_items<T>(
        &mut self,
        name: &'static str,
        length: RangeInclusive<usize>,
        parse: impl Fn(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<Vec<T>> {
        let items = self.take(name)?;
        self.items(name, items, length, parse)
    }

    fn items<T>(
        &mut self,
        name: &'static str,
        items: JsonNode,
        length: RangeInclusive<usize>,
        parse: impl Fn(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<Vec<T>> {
        let items = self.list(name, items, length)?;
        let item = |(index, node): (usize, JsonNode)| {
            let issue = |ValidationError(why)| {
                let path = vec![name.to_owned(), index.to_string()];
                self.issues.push(Issue { path, ..Issue::body(why) });
            };
            parse(node).map_err(issue).ok()
        };
        let items: Vec<Option<T>> = items.into_iter().enumerate().map(item).collect();
        items.into_iter().collect()
    }

    /// Returns the items of a list, whose number must be within `length`.
    fn list(
        &mut self,
        name: &'static str,
        items: JsonNode,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<JsonNode>> {
        let JsonNode::Array(items) = items else {
            self.add_issue(name, "must be a list".into());
            return None;
        };
        if !length.contains(&items.len()) {
            let message = format!("must have {} to {} items", length.start(), length.end());
            self.add_issue(name, message.into());
            return None;
        }
        Some(items)
    }

    fn objects<T: FromFields>(
        &mut self,
        name: &'static str,
        items: JsonNode,
        length: RangeInclusive<usize>,
    ) -> Option<Vec<T>> {
        let items = self.list(name, items, length)?;
        let item = |(index, node): (usize, JsonNode)| {
            self.object(&[name.to_owned(), index.to_string()], node)
        };
        // All items are parsed before returning, so that the issues of all are recorded.
        let items: Vec<Option<T>> = items.into_iter().enumerate().map(item).collect();
        items.into_iter().collect()
    }

    /// Parses an object within the body. The paths of its issues begin with `path`.
    fn object<T: FromFields>(&mut self, path: &[String], node: JsonNode) -> Option<T> {
        let JsonNode::Object(members) = node else {
            let issue = Issue::body("must be an object");
            self.issues.push(Issue { path: path.to_vec(), ..issue });
            return None;
        };
        let mut fields = Fields::new(members, self.context);
        let value = T::from_fields(&mut fields);
        let (issues, deferred) = fields.into_issues();
        let is_valid = issues.is_empty();
        let within = |issue: Issue| Issue { path: [path, &issue.path].concat(), ..issue };
        self.issues.extend(issues.into_iter().map(within));
        self.deferred.extend(deferred.into_iter().map(within));
        value.filter(|_| is_valid)
    }

    /// Returns the deferred issues, which must be checked once it is known that the request is not
    /// a repetition.
    ///
    /// # Errors
    /// Invalid, with every issue, if one is not deferred or a member is unknown.
    pub fn finish(self) -> Result<Vec<Issue>> {
        let (mut issues, mut deferred) = self.into_issues();
        if issues.is_empty() {
            return Ok(deferred);
        }
        issues.append(&mut deferred);
        Err(Error::invalid(issues))
    }

    /// Returns all issues, including those of members that no field took, and the deferred issues.
    fn into_issues(mut self) -> (Vec<Issue>, Vec<Issue>) {
        for (name, _) in self.members {
            let name: String = name.chars().take(64).collect();
            self.issues.push(Issue::field(name, "is not a field of this request"));
        }
        (self.issues, self.deferred)
    }

    fn parse<T>(
        &mut self,
        name: &'static str,
        node: JsonNode,
        parse: impl FnOnce(JsonNode) -> Result<T, ValidationError>,
    ) -> Option<T> {
        parse(node).map_err(|ValidationError(why)| self.issues.push(Issue::field(name, why))).ok()
    }

    /// Removes the member `name` and returns it. A repeated member is an issue.
    fn take(&mut self, name: &'static str) -> Option<JsonNode> {
        let index = self.members.iter().position(|(member, _)| member == name)?;
        let (_, node) = self.members.remove(index);
        let remaining = self.members.len();
        self.members.retain(|(member, _)| member != name);
        if self.members.len() < remaining {
            self.issues.push(Issue::field(name, "must not be repeated"));
        }
        Some(node)
    }
}
