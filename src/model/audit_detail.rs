//! The detail of an audit event: what changed, in at most [`MAX_BYTES`]. Audit events are stored
//! for a long time, so repeated updates with large values must not fill the disk.

use serde_json::{Map, Value, json};

/// The maximum size of a detail, in bytes of JSON.
pub const MAX_BYTES: usize = 2048;
/// The number of characters that are kept of a long text if the detail is too large.
const MAX_TEXT_CHARS: usize = 100;
/// The number of items or members that are kept of a list or object if the detail is too large.
const MAX_ITEMS: usize = 10;

/// Returns the members that differ, as `before` and `after`. If a member is an object in both, its
/// own members are compared.
#[must_use]
pub fn diff(before: Value, after: Value) -> Value {
    let (before, after) = differing_members(before, after);
    json!({ "before": before, "after": after })
}

fn differing_members(before: Value, after: Value) -> (Value, Value) {
    let (Value::Object(mut before), Value::Object(mut after)) = (before, after) else {
        return (Value::Null, Value::Null);
    };
    let is_same = |name: &String| before.get(name) == after.get(name);
    let same: Vec<String> = before.keys().filter(|name| is_same(name)).cloned().collect();
    for name in same {
        before.remove(&name);
        after.remove(&name);
    }
    for (name, old) in &mut before {
        if let Some(new) = after.get_mut(name)
            && old.is_object()
            && new.is_object()
        {
            (*old, *new) = differing_members(old.take(), new.take());
        }
    }
    (Value::Object(before), Value::Object(after))
}

/// Returns the detail. If it is too large, its long texts, lists and objects are shortened and
/// `shortened` is true; if that is not enough, only its size remains.
#[must_use]
pub fn bounded(detail: &Value) -> Value {
    if size(detail) <= MAX_BYTES {
        return detail.clone();
    }
    let mut short = detail.clone();
    shorten(&mut short);
    if let Value::Object(members) = &mut short {
        members.insert("shortened".to_owned(), Value::Bool(true));
    }
    if size(&short) <= MAX_BYTES {
        short
    } else {
        json!({ "shortened": true, "bytes": size(detail) })
    }
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT_CHARS) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(items) => {
            if items.len() > MAX_ITEMS {
                let more = items.len() - MAX_ITEMS;
                items.truncate(MAX_ITEMS);
                items.push(Value::String(format!("… and {more} more")));
            }
            items.iter_mut().for_each(shorten);
        }
        Value::Object(members) => {
            let all = std::mem::take(members);
            let more = all.len().saturating_sub(MAX_ITEMS);
            let short = all.into_iter().take(MAX_ITEMS).map(|(name, mut value)| {
                shorten(&mut value);
                let mut name = Value::String(name);
                shorten(&mut name);
                (name.as_str().unwrap_or_default().to_owned(), value)
            });
            *members = short.collect::<Map<_, _>>();
            if more > 0 {
                members.insert("…".to_owned(), Value::String(format!("and {more} more")));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_contains_only_the_members_that_differ() {
        let before = json!({ "name": "a", "scopes": ["*"], "metadata": { "team": "x", "n": "1" } });
        let after = json!({ "name": "b", "scopes": ["*"], "metadata": { "team": "y", "n": "1" } });
        let expected = json!({
            "before": { "name": "a", "metadata": { "team": "x" } },
            "after": { "name": "b", "metadata": { "team": "y" } },
        });
        assert_eq!(diff(before, after), expected);
        let (none, one) = (json!({ "metadata": {} }), json!({ "metadata": { "team": "x" } }));
        let expected = json!({ "before": none, "after": one });
        assert_eq!(diff(none, one), expected);
    }

    #[test]
    fn a_detail_that_is_too_large_is_shortened_to_the_maximum_and_marked() {
        let small = json!({ "name": "a" });
        assert_eq!(bounded(&small), small);
        let long = "ü".repeat(5_000);
        let many: Vec<String> = (0..500).map(|number| format!("scope:{number}")).collect();
        let short = bounded(&json!({ "name": long, "scopes": many }));
        assert_eq!(short["shortened"], true);
        assert_eq!(short["name"].as_str().expect("a text").chars().count(), 101);
        assert_eq!(short["scopes"][10], "… and 490 more");
        let wide: Map<_, _> =
            (0..50).map(|number| (format!("{number}{long}"), json!({ "a": many }))).collect();
        for large in [json!({ "before": wide, "after": wide }), json!([[[many]]]), json!(long)] {
            assert!(size(&bounded(&large)) <= MAX_BYTES);
        }
    }
}
