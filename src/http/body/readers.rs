//! How fields are read that several routes have.

use std::collections::BTreeMap;

use crate::http::body::{Fields, Node};
use crate::model::Invalid;
use crate::model::allowed_ips::AllowedIps;
use crate::model::email::Email;
use crate::model::metadata::{Metadata, MetadataChanges};
use crate::model::password::{NewPassword, attempt};
use crate::model::role::Role;
use crate::model::secret::Secret;

/// Reads a string field by `parse`.
pub fn text<T>(
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> impl FnOnce(Node) -> Result<T, Invalid> {
    |node| parse(&node.into_text()?)
}

/// Reads a list of networks.
///
/// # Errors
/// For another value, or more than 100.
pub fn allowed_ips(node: Node) -> Result<AllowedIps, Invalid> {
    AllowedIps::parse(&node.into_texts()?)
}

/// Reads strings under names.
///
/// # Errors
/// For another value, or more than 4 KiB.
pub fn metadata(node: Node) -> Result<Metadata, Invalid> {
    let members = node.into_members()?.into_iter();
    let texts = members.map(|(name, value)| Ok((name, member(value)?)));
    Metadata::parse(texts.collect::<Result<BTreeMap<_, _>, Invalid>>()?)
}

/// Reads changes to strings under names: null removes one.
///
/// # Errors
/// For another value.
pub fn metadata_changes(node: Node) -> Result<MetadataChanges, Invalid> {
    let members = node.into_members()?.into_iter();
    let changes = members.map(|(name, value)| match value {
        Node::Null => Ok((name, None)),
        value => Ok((name, Some(member(value)?))),
    });
    let changes: BTreeMap<String, Option<String>> = changes.collect::<Result<_, Invalid>>()?;
    // What is too much alone is too much together; the sum is judged where the rest is known.
    let added = changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    Metadata::parse(added.collect())?;
    Ok(MetadataChanges(changes))
}

fn member(value: Node) -> Result<String, Invalid> {
    value.into_text().map_err(|_| "must hold strings only".into())
}

/// Takes the required field `name`: a password that somebody chooses, who has this address.
pub fn new_password(
    fields: &mut Fields<'_>,
    name: &'static str,
    email: Option<&Email>,
) -> Option<NewPassword> {
    let password = fields.required(name, text(NewPassword::parse))?;
    let is_email = email.and_then(|email| password.differs_from(email).err());
    if let Some(refused) = is_email {
        fields.note(name, refused);
        return None;
    }
    Some(password)
}

/// Reads a password that somebody shows.
///
/// # Errors
/// For another value, or one that is too long to be a password.
pub fn shown_password(node: Node) -> Result<Secret, Invalid> {
    attempt(&node.into_text()?).ok_or("is longer than any password".into())
}

/// Reads a role.
///
/// # Errors
/// For another value.
pub fn role(node: Node) -> Result<Role, Invalid> {
    Role::parse(&node.into_text()?).ok_or("must be owner, admin or member".into())
}

/// Reads a token that somebody shows.
///
/// # Errors
/// For another value.
pub fn secret(node: Node) -> Result<Secret, Invalid> {
    node.into_text().map(Secret::new)
}
