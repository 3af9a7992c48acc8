//! Records the statements that a server sends for a request, from Postgres's log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::client::{Client, Request};
use crate::environment::BenchmarkEnvironment;
use crate::server::Server;
use tenantry::commands::Failure;

/// The maximum number of times that a request is repeated until its statements are the same twice
/// in a row.
const ATTEMPTS: usize = 10;

/// A statement and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The statement, with `$1` for the first value.
    pub(crate) sql: String,
    /// The values as text; `None` is null.
    pub(crate) values: Vec<Option<String>>,
}

/// A separate server, whose statements Postgres logs.
pub(crate) struct Recorder {
    server: Server,
    client: Client,
    log: PathBuf,
}

impl Recorder {
    /// Starts the server.
    ///
    /// # Errors
    /// The server does not start.
    pub(crate) async fn start(environment: &BenchmarkEnvironment) -> Result<Self, Failure> {
        let server = environment.start_recorded()?;
        let client = Client::connect(server.address).await?;
        Ok(Self { server, client, log: environment.cluster.log() })
    }

    /// Returns two consecutive recordings of the request that have the same statements, with the
    /// values of each. The first request of a kind sends more than later ones, and sometimes a
    /// background task sends a statement, so the request is repeated.
    ///
    /// # Errors
    /// A response is unexpected, or no two consecutive recordings have the same statements, or none
    /// were logged.
    pub(crate) async fn record(
        &mut self,
        request: &Request,
    ) -> Result<[Vec<Statement>; 2], Failure> {
        let mut previous = self.record_once(request).await?;
        for _ in 0..ATTEMPTS {
            let next = self.record_once(request).await?;
            if shape(&next) == shape(&previous) && !next.is_empty() {
                return Ok([previous, next]);
            }
            previous = next;
        }
        let message =
            "the statements of a request were never the same twice in a row, or not logged";
        Err(Failure::Message(message.to_owned()))
    }

    async fn record_once(&mut self, request: &Request) -> Result<Vec<Statement>, Failure> {
        let mut log = File::open(&self.log)?;
        log.seek(SeekFrom::End(0))?;
        self.client.execute(request).await?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(parse_log(&String::from_utf8_lossy(&bytes)))
    }

    /// Stops the server.
    ///
    /// # Errors
    /// The server cannot be stopped.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.server.stop()
    }
}

/// Returns the statements, and the number of values of each.
pub(crate) fn shape(sent: &[Statement]) -> Vec<(&str, usize)> {
    sent.iter().map(|it| (it.sql.as_str(), it.values.len())).collect()
}

/// Parses the log of `log_statement = all`. Further lines of an entry begin with a tab.
fn parse_log(log: &str) -> Vec<Statement> {
    let mut sent: Vec<Statement> = Vec::new();
    for entry in log.replace("\n\t", "\u{1}").lines() {
        let entry = entry.replace('\u{1}', "\n");
        if let Some((_, message)) = entry.split_once("] LOG:  ") {
            let executed = message.strip_prefix("execute ").and_then(|it| it.split_once(": "));
            let sql = executed.map(|(_, sql)| sql).or_else(|| message.strip_prefix("statement: "));
            sent.extend(sql.map(|sql| Statement { sql: sql.to_owned(), values: Vec::new() }));
        } else if let Some((_, message)) = entry.split_once("] DETAIL:  ")
            // Whether the word begins with a capital letter depends on the version of Postgres.
            && let Some((_, values)) = message.split_once("arameters: ")
            && let Some(last) = sent.last_mut()
        {
            last.values = parse_values(values);
        }
    }
    sent
}

/// Parses `$1 = 'it''s', $2 = NULL`.
fn parse_values(text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(" = ") {
        let Some(quoted) = after.strip_prefix('\'') else {
            values.push(None);
            rest = after;
            continue;
        };
        let (value, after) = parse_quoted(quoted);
        values.push(Some(value));
        rest = after;
    }
    values
}

/// Returns the value up to its closing quote, and the rest of the text.
fn parse_quoted(text: &str) -> (String, &str) {
    let (mut value, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('\'') {
        value.push_str(before);
        let Some(more) = after.strip_prefix('\'') else { return (value, after) };
        value.push('\'');
        rest = more;
    }
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-26 21:00:00.123 UTC [7] LOG:  statement: BEGIN
2026-11-26 21:00:00.124 UTC [7] LOG:  execute sqlx_s_2: insert into a (b, c)
\t         values ($1, $2, $3)
2026-11-26 21:00:00.124 UTC [7] DETAIL:  parameters: $1 = 'it''s = ', $2 = NULL, $3 = 'a
\tb'
2026-11-26 21:00:00.125 UTC [7] LOG:  checkpoint starting: time
";

    #[test]
    fn statements_are_parsed_with_their_values() {
        let sent = parse_log(LOG);
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].sql.as_str(), sent[0].values.len()), ("BEGIN", 0));
        assert_eq!(sent[1].sql, "insert into a (b, c)\n         values ($1, $2, $3)");
        let values = [Some("it's = ".to_owned()), None, Some("a\nb".to_owned())];
        assert_eq!(sent[1].values, values);
    }
}
