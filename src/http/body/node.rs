//! A JSON value that keeps the order of members and members of the same name.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::ValidationError;

/// A JSON value. Unlike `serde_json::Value`, it keeps all members of the same name, so that they
/// can be rejected.
pub enum JsonNode {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

impl JsonNode {
    /// Returns the string.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn into_string(self) -> Result<String, ValidationError> {
        match self {
            Self::String(text) => Ok(text),
            _ => Err("must be a string".into()),
        }
    }

    /// Returns the boolean.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn into_bool(self) -> Result<bool, ValidationError> {
        match self {
            Self::Bool(value) => Ok(value),
            _ => Err("must be true or false".into()),
        }
    }

    /// Returns the whole number, which must be within `range`.
    ///
    /// # Errors
    /// If the value is another number or has another type.
    pub fn into_integer(self, range: RangeInclusive<i32>) -> Result<i32, ValidationError> {
        let number = match &self {
            Self::Number(number) => number.as_i64().and_then(|number| number.try_into().ok()),
            _ => None,
        };
        let (min, max) = (range.start(), range.end());
        let message = || format!("must be a whole number from {min} to {max}").into();
        number.filter(|number| range.contains(number)).ok_or_else(message)
    }

    /// Returns the members of the object.
    ///
    /// # Errors
    /// If the value has another type, or a member is repeated.
    pub fn into_object(self) -> Result<BTreeMap<String, Self>, ValidationError> {
        let Self::Object(members) = self else { return Err("must be an object".into()) };
        let count = members.len();
        let members: BTreeMap<String, Self> = members.into_iter().collect();
        if members.len() < count { Err("must not repeat a member".into()) } else { Ok(members) }
    }

    /// Returns the value in canonical form: members sorted by name.
    #[must_use]
    pub fn canonical(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::String(text) => Value::String(text.clone()),
            Self::Array(items) => items.iter().map(Self::canonical).collect(),
            Self::Object(members) => {
                let members = members.iter();
                members.map(|(name, value)| (name.clone(), value.canonical())).collect()
            }
        }
    }

    /// Returns the list of strings.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn into_strings(self) -> Result<Vec<String>, ValidationError> {
        let invalid = || ValidationError::from("must be a list of strings");
        match self {
            Self::Array(items) => {
                items.into_iter().map(|item| item.into_string().map_err(|_| invalid())).collect()
            }
            _ => Err(invalid()),
        }
    }
}

impl<'de> Deserialize<'de> for JsonNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonNodeVisitor)
    }
}

struct JsonNodeVisitor;

impl<'de> Visitor<'de> for JsonNodeVisitor {
    type Value = JsonNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonNode, E> {
        Ok(JsonNode::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonNode, E> {
        Ok(JsonNode::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonNode, E> {
        Ok(JsonNode::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonNode, E> {
        Ok(JsonNode::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonNode, E> {
        Ok(serde_json::Number::from_f64(value).map_or(JsonNode::Null, JsonNode::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonNode, E> {
        Ok(JsonNode::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<JsonNode, E> {
        Ok(JsonNode::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<JsonNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(JsonNode::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonNode, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(JsonNode::Object(members))
    }
}
