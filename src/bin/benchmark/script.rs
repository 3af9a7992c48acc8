//! Creates a pgbench script from recorded statements, with new values for each transaction.
//!
//! Recordings are compared to find the values that change. Values that two requests of one client
//! share, and that differ from those of other clients, belong to the client (its organization, its
//! key). Of the values that differ between two requests of one client, ids, digests, numbers and
//! other texts are generated for each transaction; times, IP addresses and JSON stay as recorded.

use std::collections::HashMap;
use std::fmt::Write;

use crate::recorder::{Statement, shape};
use tenantry::commands::Failure;

/// The recordings of a kind of request.
pub(crate) struct Recording {
    /// Two requests of one client.
    pub(crate) same_client: [Vec<Statement>; 2],
    /// One request of each client; empty if all clients send the same.
    pub(crate) each_client: Vec<Vec<Statement>>,
}

impl Recording {
    /// Returns the script. It needs two variables: `n`, at least as large as any `n` of an earlier
    /// run, and `started`, which is 0. It supports at most 32 clients, and no more than
    /// `each_client` has unless that is empty.
    ///
    /// # Errors
    /// The recordings have different statements.
    pub(crate) fn script(&self) -> Result<String, Failure> {
        let first = &self.same_client[0];
        if self.same_client.iter().chain(&self.each_client).any(|it| shape(it) != shape(first)) {
            let differ = "the recorded statements of one kind of request differ";
            return Err(Failure::Message(differ.to_owned()));
        }
        let mut values = Substitutions::default();
        let mut statements = String::new();
        for (statement, sent) in first.iter().enumerate() {
            let parameters = (0..sent.values.len())
                .map(|parameter| values.expression(self, statement, parameter));
            let sql = substitute(&sent.sql, &parameters.collect::<Vec<_>>());
            let _ = writeln!(statements, "{sql};");
        }
        let client_setup = values.client_setup();
        Ok(format!("{client_setup}\\set n :n + 1\n\\set u :n * 32 + :client_id\n{statements}"))
    }

    /// Returns the value of one parameter in each client's recording.
    fn client_values(&self, statement: usize, parameter: usize) -> Vec<Option<&str>> {
        self.each_client.iter().map(|sent| sent[statement].values[parameter].as_deref()).collect()
    }
}

/// The expressions that replace the values that differ.
#[derive(Default)]
struct Substitutions {
    /// The expressions that generate values, by the value of the first recording.
    generated: HashMap<String, String>,
    /// The values that belong to clients: for each such value, one text per client.
    per_client: Vec<Vec<String>>,
}

impl Substitutions {
    fn expression(&mut self, recording: &Recording, statement: usize, parameter: usize) -> String {
        let [one, other] = [0, 1]
            .map(|index| recording.same_client[index][statement].values[parameter].as_deref());
        let (Some(one), Some(other)) = (one, other) else { return "null".to_owned() };
        if one != other {
            let number = self.generated.len();
            let entry = self.generated.entry(one.to_owned());
            return entry.or_insert_with(|| generated_expression(one, other, number)).clone();
        }
        let client_values = recording.client_values(statement, parameter);
        if client_values.iter().all(|value| *value == Some(one)) {
            return literal(one);
        }
        let texts: Vec<String> =
            client_values.into_iter().map(|it| it.unwrap_or_default().to_owned()).collect();
        let known = self.per_client.iter().position(|it| *it == texts);
        let number = known.unwrap_or_else(|| {
            self.per_client.push(texts);
            self.per_client.len() - 1
        });
        format!(":client_value_{number}")
    }

    /// Returns commands with which each client selects its own values once, at no cost for later
    /// transactions.
    fn client_setup(&self) -> String {
        if self.per_client.is_empty() {
            return String::new();
        }
        let arrays = self.per_client.iter().enumerate().map(|(number, texts)| {
            let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            format!("(array[{}])[:client_id::int + 1] as client_value_{number}", texts.join(", "))
        });
        let arrays = arrays.collect::<Vec<_>>().join(",\n    ");
        format!("\\if :started = 0\nselect {arrays}\n\\gset\n\\set started 1\n\\endif\n")
    }
}

/// Returns an expression for a value that differs between two requests, by its form. UUIDs,
/// `bytea`, integers and other texts are derived from `:u`, which is unique for each transaction.
/// Times, IP addresses and JSON are constants.
fn generated_expression(one: &str, other: &str, number: usize) -> String {
    let digits = one.replace('-', "");
    if one.len() == 36 && digits.len() == 32 {
        // Ids begin with the time, so the newest are adjacent in an index.
        let time = &digits[..12];
        return format!("('{time}' || lpad(to_hex(:u::bigint), 18, '0') || '{number:02x}')::uuid");
    }
    if one.starts_with("\\x") {
        return format!("sha256(int8send(:u::bigint * 256 + {number}))");
    }
    if one.parse::<i64>().is_ok() {
        return format!("(:u::bigint * 256 + {number})");
    }
    let is_time = one.len() >= 20 && one.as_bytes()[4] == b'-' && one.as_bytes()[10] == b' ';
    if is_time || one.starts_with(['{', '[']) || one.parse::<std::net::IpAddr>().is_ok() {
        return literal(one);
    }
    let common = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let prefix = one[..common].rfind('_').map_or("", |end| &one[..=end]);
    let width = (one.len() - prefix.len()).clamp(8, 16);
    let prefix = literal(prefix);
    // Reversed, consecutive numbers are far apart in an index, as random values are.
    format!("({prefix} || reverse(lpad(to_hex(:u::bigint), {width}, '0')))")
}

/// Returns a text as a literal. Colons are escaped, because pgbench replaces `:a` even in quotes.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if !text.contains(':') {
        return format!("'{quoted}'");
    }
    format!("U&'{}'", quoted.replace('\\', "\\\\").replace(':', "\\003a"))
}

/// Returns the statement with expressions in place of `$1`, `$2`, …
fn substitute(sql: &str, expressions: &[String]) -> String {
    let mut parts = sql.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let parameter = part[..end].parse::<usize>().ok().and_then(|it| it.checked_sub(1));
        if let Some(expression) = parameter.and_then(|parameter| expressions.get(parameter)) {
            filled.push_str(expression);
        } else {
            filled.push('$');
            filled.push_str(&part[..end]);
        }
        filled.push_str(&part[end..]);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sql: &str, values: &[Option<&str>]) -> Statement {
        let values = values.iter().map(|value| value.map(ToOwned::to_owned)).collect();
        Statement { sql: sql.to_owned(), values }
    }

    #[test]
    fn differing_values_are_generated_client_values_are_selected_once_and_others_are_constant() {
        let of = |id: &str, organization: &str| {
            let select = sent("select $1::text, $2", &[Some("a:b'c"), None]);
            let values = [Some(organization), Some(id)];
            vec![select, sent("insert into k values ($1, $2, $2)", &values)]
        };
        let ids = ["0193f0a1-aaaa-7bbb-8ccc-0123456789ab", "0193f0a1-aaab-7bbb-8ccc-0123456789ab"];
        let twice = ids.map(|id| of(id, "one"));
        let clients = vec![of(ids[0], "one"), of(ids[1], "two")];
        let script = Recording { same_client: twice, each_client: clients }.script().unwrap();
        let id = "('0193f0a1aaaa' || lpad(to_hex(:u::bigint), 18, '0') || '00')::uuid";
        for part in [
            "(array['one', 'two'])[:client_id::int + 1] as client_value_0\n\\gset",
            r"select U&'a\003ab''c'::text, null;",
            &format!("insert into k values (:client_value_0, {id}, {id});"),
        ] {
            assert!(script.contains(part), "{part} is not in {script}");
        }
    }

    #[test]
    fn unique_values_are_generated_by_kind_and_the_others_are_constant() {
        for (one, other, expected) in [
            ("\\x00ff", "\\x00fe", "sha256(int8send(:u::bigint * 256 + 3))"),
            ("17", "18", "(:u::bigint * 256 + 3)"),
            ("org_a1b2c3d4e5", "org_a9", "('org_' || reverse(lpad(to_hex(:u::bigint), 10, '0')))"),
            ("k1", "k2", "('' || reverse(lpad(to_hex(:u::bigint), 8, '0')))"),
            (
                "2026-11-26 21:00:00+00",
                "2026-11-26 21:00:01+00",
                r"U&'2026-11-26 21\003a00\003a00+00'",
            ),
            ("{\"a\": 1}", "{\"a\": 2}", r#"U&'{"a"\003a 1}'"#),
        ] {
            assert_eq!(generated_expression(one, other, 3), expected);
        }
    }

    #[test]
    fn recordings_of_different_statements_are_an_error() {
        let [one, other] = ["select 1", "select 2"].map(|sql| vec![sent(sql, &[])]);
        assert!(Recording { same_client: [one, other], each_client: Vec::new() }.script().is_err());
    }
}
