//! JSON as it was sent: members in their order, those of one name side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::Invalid;

/// A JSON value. Unlike `serde_json::Value` it does not lose the first of two equal names.
pub enum Node {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

impl Node {
    /// The string that this is.
    ///
    /// # Errors
    /// For a value of another type.
    pub fn into_text(self) -> Result<String, Invalid> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err("must be a string".into()),
        }
    }

    /// The boolean that this is.
    ///
    /// # Errors
    /// For a value of another type.
    pub fn into_bool(self) -> Result<bool, Invalid> {
        match self {
            Self::Bool(value) => Ok(value),
            _ => Err("must be true or false".into()),
        }
    }

    /// The whole number within `range` that this is.
    ///
    /// # Errors
    /// For another number or a value of another type.
    pub fn into_whole(self, range: RangeInclusive<i32>) -> Result<i32, Invalid> {
        let number = match &self {
            Self::Number(number) => number.as_i64().and_then(|number| number.try_into().ok()),
            _ => None,
        };
        let (least, most) = (range.start(), range.end());
        let message = || format!("must be a whole number from {least} to {most}").into();
        number.filter(|number| range.contains(number)).ok_or_else(message)
    }

    /// The members of the object that this is, each there once.
    ///
    /// # Errors
    /// For a value of another type, or a member that is there twice.
    pub fn into_members(self) -> Result<BTreeMap<String, Self>, Invalid> {
        let Self::Object(members) = self else { return Err("must be an object".into()) };
        let count = members.len();
        let members: BTreeMap<String, Self> = members.into_iter().collect();
        if members.len() < count { Err("has a member twice".into()) } else { Ok(members) }
    }

    /// The value in one spelling: members in the order of their names, no white space.
    #[must_use]
    pub fn canonical(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(Self::canonical).collect(),
            Self::Object(members) => {
                let members = members.iter();
                members.map(|(name, value)| (name.clone(), value.canonical())).collect()
            }
        }
    }

    /// The strings that this is a list of.
    ///
    /// # Errors
    /// For a value of another type.
    pub fn into_texts(self) -> Result<Vec<String>, Invalid> {
        let wrong = || Invalid::from("must be a list of strings");
        match self {
            Self::List(items) => {
                items.into_iter().map(|item| item.into_text().map_err(|_| wrong())).collect()
            }
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}
