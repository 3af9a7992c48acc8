//! A JSON object without repeated member names. By default, serde silently uses the last of two
//! members with one name.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// The members of a JSON object, in their order.
pub(super) struct UniqueObject<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UniqueObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueObjectVisitor(PhantomData))
    }
}

struct UniqueObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueObjectVisitor<T> {
    type Value = UniqueObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(String, T)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, T>()? {
            if members.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format!("{name:?} must not be repeated")));
            }
            members.push((name, value));
        }
        Ok(UniqueObject(members))
    }
}
