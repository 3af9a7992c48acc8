//! Metadata: strings that an organization stores with a key, and an operator with an organization.

use std::collections::BTreeMap;

use crate::model::ValidationError;

/// The maximum size of metadata, in bytes of JSON.
const MAX_BYTES: usize = 4096;

/// Metadata: values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Validates metadata.
    ///
    /// # Errors
    /// A name is blank, the JSON exceeds 4 KiB, or there is a NUL character, which Postgres cannot
    /// store.
    pub fn parse(members: BTreeMap<String, String>) -> Result<Self, ValidationError> {
        if members.keys().any(|name| name.trim().is_empty()) {
            return Err("must not contain an empty name".into());
        }
        Self::checked(members)
    }

    fn checked(members: BTreeMap<String, String>) -> Result<Self, ValidationError> {
        if members.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return Err("must not contain U+0000".into());
        }
        let metadata = Self(members);
        if metadata.to_stored().to_string().len() > MAX_BYTES {
            return Err(format!("must be at most {MAX_BYTES} bytes of JSON").into());
        }
        Ok(metadata)
    }

    /// Returns the metadata with these changes applied.
    ///
    /// # Errors
    /// The result exceeds 4 KiB or contains a NUL character. Unlike in [`Metadata::parse`], names
    /// may be blank: such members may already be stored.
    pub fn merged(&self, changes: &MetadataChanges) -> Result<Self, ValidationError> {
        let mut members = self.0.clone();
        for (name, change) in &changes.0 {
            match change {
                Some(value) => members.insert(name.clone(), value.clone()),
                None => members.remove(name),
            };
        }
        Self::checked(members)
    }

    /// Creates metadata from the database's column.
    #[must_use]
    pub fn from_stored(value: serde_json::Value) -> Self {
        Self(serde_json::from_value(value).unwrap_or_default())
    }

    /// Returns about how many bytes it occupies in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // 96: two `String`s and map overhead.
        self.0.iter().map(|(name, value)| name.len() + value.len() + 96).sum()
    }

    /// Returns the value of the database's column, which responses also contain.
    #[must_use]
    pub fn to_stored(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }
}

/// Changes to metadata: a string sets a member, and `None` removes it.
#[derive(Clone)]
pub struct MetadataChanges(pub BTreeMap<String, Option<String>>);
