//! `tenantry audit …`: whether the audit logs are as they were written.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::app::App;
use crate::commands::migrate::{configuration, with_app};
use crate::commands::{Failure, say};
use crate::domain::audit;
use crate::model::audit_chain::{Observation, Verification};
use crate::model::audit_findings::{Fault, Finding};
use crate::model::audit_head::{Head, signing_since};
use crate::model::audit_seal::{Proof, SigningStart};
use crate::repo::{audit_chain, audit_heads};

/// How many rows are read at once.
const PAGE: i64 = 1000;

/// What there is to compare the database with: from the command line, and from the log.
#[derive(Default)]
struct Given {
    heads: Vec<Head>,
    /// Since when events carry MACs, as the log has it.
    since: Vec<DateTime<Utc>>,
}

/// How much was found.
#[derive(Default)]
struct Found {
    wrong: u64,
    /// What can not be told for want of a pepper.
    unchecked: u64,
}

impl Found {
    fn say(&mut self, observed: Vec<Observation>) -> Result<(), Failure> {
        observed.into_iter().try_for_each(|observation| match observation {
            Observation::Whole(head) => say(&format!("{head}\n")),
            Observation::Wrong(finding) => {
                let count = if finding.fault.is_unchecked() {
                    &mut self.unchecked
                } else {
                    &mut self.wrong
                };
                *count += 1;
                say(&format!("{finding}\n"))
            }
        })
    }
}

/// Looks at the audit logs of all organizations, deleted ones and the deployment's own included,
/// and says of each that it is whole, or what is wrong with it. `heads` and those in `files` (logs,
/// or lists of heads) say what ends there were.
///
/// # Errors
/// Where anything is wrong, or can not be checked for want of a pepper; a text that should be a
/// head and is none; a wrong configuration, a database that does not answer.
pub fn verify(heads: &[String], files: &[PathBuf]) -> Result<(), Failure> {
    let Given { heads, since } = given(heads, files)?;
    let config = configuration()?;
    with_app(config, async |app| {
        let count = heads.len();
        let mut verification = Verification::against(app.audit_signer.clone(), heads);
        let mut found = Found::default();
        let start = audit::signing_start(app).await?;
        if let Some(fault) = fault_of_start(start.as_ref(), &since) {
            let organization = "system".to_owned();
            found.say(vec![Observation::Wrong(Finding { organization, fault })])?;
        }
        look(app, &mut verification, &mut found).await?;
        let (chains, links) = verification.seen;
        let mut told = format!("{links} events in {chains} chains, {count} heads to compare with");
        if let (older @ 1.., Some((start, _))) = (verification.unsigned, start) {
            let since = start.started_at.to_rfc3339_opts(SecondsFormat::Micros, true);
            let _ = write!(told, ", {older} events from before events were signed ({since})");
        }
        if verification.pruned > 0 {
            let _ = write!(told, ", {} older ones removed by retention", verification.pruned);
        }
        conclude(&told, &found)
    })
}

/// What is wrong with what the database says of since when events carry MACs, which the log says,
/// too.
fn fault_of_start(start: Option<&(SigningStart, Proof)>, since: &[DateTime<Utc>]) -> Option<Fault> {
    let is_later = |said: &&DateTime<Utc>| start.is_none_or(|(start, _)| start.started_at > **said);
    match start {
        Some((_, Proof::Wrong)) => Some(Fault::ForgedStart),
        Some((_, Proof::NoPepper(pepper))) => Some(Fault::NoPepperOfStart(pepper.clone())),
        Some((_, Proof::Good)) | None => {
            since.iter().find(is_later).copied().map(Fault::SignedAnew)
        }
    }
}

fn conclude(told: &str, found: &Found) -> Result<(), Failure> {
    match found {
        Found { wrong: 0, unchecked: 0 } => say(&format!("{told}: all as it was written\n")),
        Found { wrong: 0, unchecked } => Err(Failure::Refused(format!(
            "{told}: nothing is wrong with what can be checked, but {unchecked} parts can not be: \
             put the pepper back at the end of KEY_PEPPERS"
        ))),
        Found { wrong, .. } => Err(Failure::Refused(format!(
            "{told}: {wrong} findings. Somebody with access to the database did this past the \
             application: keep its logs and this output, and compare with a backup"
        ))),
    }
}

/// What was given, on the command line and in files.
fn given(heads: &[String], files: &[PathBuf]) -> Result<Given, Failure> {
    let heads = heads.iter().map(|text| {
        let marked = Head::find(text).ok().flatten();
        marked.ok_or_else(|| Failure::Refused(format!("{text}: a head is ORG:POSITION:DIGEST")))
    });
    let mut given = Given { heads: heads.collect::<Result<_, _>>()?, since: Vec::new() };
    for file in files {
        let named = |why: String| Failure::Refused(format!("{}: {why}", file.display()));
        for (at, line) in lines(file).map_err(|error| named(error.to_string()))?.enumerate() {
            let line = line.map_err(|error| named(error.to_string()))?;
            let line = String::from_utf8_lossy(&line);
            let found = Head::find(&line);
            let found = found.map_err(|why| named(format!("line {}: a head {why}", at + 1)))?;
            given.heads.extend(found);
            given.since.extend(signing_since(&line));
        }
    }
    if given.heads.is_empty() && !files.is_empty() {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::Refused(format!("{}: there is no head in any", files.join(", "))));
    }
    Ok(given)
}

fn lines(file: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let source: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file)?))
    };
    Ok(source.split(b'\n'))
}

/// Looks at everything, a page at a time.
async fn look(
    app: &App,
    verification: &mut Verification,
    found: &mut Found,
) -> Result<(), Failure> {
    loop {
        let last = verification.last();
        let links = app.db.run(async |db| audit_chain::links(db, last, PAGE).await).await?;
        if links.is_empty() {
            break;
        }
        for link in links {
            found.say(verification.see(&link))?;
        }
    }
    let without_chain = app.db.run(async |db| audit_heads::without_chain(db).await).await?;
    found.say(verification.finish(without_chain))?;
    let mut last = i64::MIN;
    loop {
        let page = app.db.run(async |db| audit_chain::without_link(db, last, PAGE).await);
        let (unlinked, seen) = page.await?;
        for (organization, event) in unlinked {
            let fault = Fault::NoLink(event);
            found.say(vec![Observation::Wrong(Finding { organization, fault })])?;
        }
        match seen {
            Some(seen) => last = seen,
            None => return Ok(()),
        }
    }
}
