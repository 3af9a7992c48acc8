//! Parsers for fields that several routes have.

use std::collections::BTreeMap;

use crate::http::body::{Fields, JsonNode};
use crate::model::ValidationError;
use crate::model::allowed_ips::AllowedIps;
use crate::model::email::Email;
use crate::model::metadata::{Metadata, MetadataChanges};
use crate::model::password::{NewPassword, normalize_presented};
use crate::model::role::Role;
use crate::model::secret::Secret;

/// Returns a parser for a string field that applies `parse`.
pub fn text<T>(
    parse: impl FnOnce(&str) -> Result<T, ValidationError>,
) -> impl FnOnce(JsonNode) -> Result<T, ValidationError> {
    |node| parse(&node.into_string()?)
}

/// Parses a list of networks.
///
/// # Errors
/// If the value is not a list of networks, or has more than 100.
pub fn parse_allowed_ips(node: JsonNode) -> Result<AllowedIps, ValidationError> {
    AllowedIps::parse(&node.into_strings()?)
}

/// Parses an object of strings.
///
/// # Errors
/// If the value is not an object of strings, or exceeds 4 KiB.
pub fn parse_metadata(node: JsonNode) -> Result<Metadata, ValidationError> {
    let members = node.into_object()?.into_iter();
    let texts = members.map(|(name, value)| Ok((name, parse_string_member(value)?)));
    Metadata::parse(texts.collect::<Result<BTreeMap<_, _>, ValidationError>>()?)
}

/// Parses changes to an object of strings: null removes an entry.
///
/// # Errors
/// If the value is not an object of strings and nulls, or the strings exceed 4 KiB.
pub fn parse_metadata_changes(node: JsonNode) -> Result<MetadataChanges, ValidationError> {
    let members = node.into_object()?.into_iter();
    let changes = members.map(|(name, value)| match value {
        JsonNode::Null => Ok((name, None)),
        value => Ok((name, Some(parse_string_member(value)?))),
    });
    let changes: BTreeMap<String, Option<String>> =
        changes.collect::<Result<_, ValidationError>>()?;
    // Additions that exceed the limit on their own are rejected here. The total is checked when the
    // changes are applied.
    let added = changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    Metadata::parse(added.collect())?;
    Ok(MetadataChanges(changes))
}

fn parse_string_member(value: JsonNode) -> Result<String, ValidationError> {
    value.into_string().map_err(|_| "must contain only strings".into())
}

/// Takes the required field `name`: a new password, which must differ from the account's `email`.
pub fn take_new_password(
    fields: &mut Fields<'_>,
    name: &'static str,
    email: Option<&Email>,
) -> Option<NewPassword> {
    let password = fields.required(name, text(NewPassword::parse))?;
    let error = email.and_then(|email| password.differs_from(email).err());
    if let Some(error) = error {
        fields.add_issue(name, error);
        return None;
    }
    Some(password)
}

/// Parses a password that a caller presents.
///
/// # Errors
/// If the value is not a string, or longer than 128 characters.
pub fn parse_presented_password(node: JsonNode) -> Result<Secret, ValidationError> {
    normalize_presented(&node.into_string()?).ok_or("must be at most 128 characters".into())
}

/// Parses a role.
///
/// # Errors
/// If the value is not the name of a role.
pub fn parse_role(node: JsonNode) -> Result<Role, ValidationError> {
    Role::parse(&node.into_string()?).ok_or("must be owner, admin or member".into())
}

/// Parses a secret that a caller presents.
///
/// # Errors
/// If the value is not a string.
pub fn parse_secret(node: JsonNode) -> Result<Secret, ValidationError> {
    node.into_string().map(Secret::new)
}
