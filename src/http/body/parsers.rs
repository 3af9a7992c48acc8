//! How fields are read that several routes have.

use std::collections::BTreeMap;

use crate::http::body::{Fields, JsonNode};
use crate::model::ValidationError;
use crate::model::allowed_ips::AllowedIps;
use crate::model::email::Email;
use crate::model::metadata::{Metadata, MetadataChanges};
use crate::model::password::{NewPassword, normalize_presented};
use crate::model::role::Role;
use crate::model::secret::Secret;

/// Reads a string field by `parse`.
pub fn text<T>(
    parse: impl FnOnce(&str) -> Result<T, ValidationError>,
) -> impl FnOnce(JsonNode) -> Result<T, ValidationError> {
    |node| parse(&node.into_string()?)
}

/// Reads a list of networks.
///
/// # Errors
/// For another value, or more than 100.
pub fn parse_allowed_ips(node: JsonNode) -> Result<AllowedIps, ValidationError> {
    AllowedIps::parse(&node.into_strings()?)
}

/// Reads strings under names.
///
/// # Errors
/// For another value, or more than 4 KiB.
pub fn parse_metadata(node: JsonNode) -> Result<Metadata, ValidationError> {
    let members = node.into_object()?.into_iter();
    let texts = members.map(|(name, value)| Ok((name, parse_string_member(value)?)));
    Metadata::parse(texts.collect::<Result<BTreeMap<_, _>, ValidationError>>()?)
}

/// Reads changes to strings under names: null removes one.
///
/// # Errors
/// For another value.
pub fn parse_metadata_changes(node: JsonNode) -> Result<MetadataChanges, ValidationError> {
    let members = node.into_object()?.into_iter();
    let changes = members.map(|(name, value)| match value {
        JsonNode::Null => Ok((name, None)),
        value => Ok((name, Some(parse_string_member(value)?))),
    });
    let changes: BTreeMap<String, Option<String>> =
        changes.collect::<Result<_, ValidationError>>()?;
    // What is too much alone is too much together; the sum is judged where the rest is known.
    let added = changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    Metadata::parse(added.collect())?;
    Ok(MetadataChanges(changes))
}

fn parse_string_member(value: JsonNode) -> Result<String, ValidationError> {
    value.into_string().map_err(|_| "must hold strings only".into())
}

/// Takes the required field `name`: a password that somebody chooses, who has this address.
pub fn take_new_password(
    fields: &mut Fields<'_>,
    name: &'static str,
    email: Option<&Email>,
) -> Option<NewPassword> {
    let password = fields.required(name, text(NewPassword::parse))?;
    let is_email = email.and_then(|email| password.differs_from(email).err());
    if let Some(refused) = is_email {
        fields.add_issue(name, refused);
        return None;
    }
    Some(password)
}

/// Reads a password that somebody shows.
///
/// # Errors
/// For another value, or one that is too long to be a password.
pub fn parse_presented_password(node: JsonNode) -> Result<Secret, ValidationError> {
    normalize_presented(&node.into_string()?).ok_or("is longer than any password".into())
}

/// Reads a role.
///
/// # Errors
/// For another value.
pub fn parse_role(node: JsonNode) -> Result<Role, ValidationError> {
    Role::parse(&node.into_string()?).ok_or("must be owner, admin or member".into())
}

/// Reads a token that somebody shows.
///
/// # Errors
/// For another value.
pub fn parse_secret(node: JsonNode) -> Result<Secret, ValidationError> {
    node.into_string().map(Secret::new)
}
