//! `tenantry audit verify`: checks that the audit logs are unchanged.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::app::App;
use crate::commands::setup::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::domain::audit;
use crate::model::audit_chain::{ChainObservation, ChainVerifier};
use crate::model::audit_findings::{AuditFault, AuditFinding};
use crate::model::audit_head::{ChainHead, parse_signing_since};
use crate::model::audit_seal::{MacCheck, SigningStart};
use crate::repo::{audit_chain, audit_heads};

/// The number of rows that are read at once.
const PAGE_SIZE: i64 = 1000;

/// The evidence to compare the database with, from the command line and from files.
#[derive(Default)]
struct VerificationInput {
    heads: Vec<ChainHead>,
    /// The times at which the signing of events began, as the server log states them.
    signing_starts: Vec<DateTime<Utc>>,
}

/// The numbers of findings and of unchecked parts.
#[derive(Default)]
struct FindingCounts {
    findings: u64,
    /// The parts that could not be checked because a pepper is not configured.
    unchecked: u64,
}

impl FindingCounts {
    fn report(&mut self, observed: Vec<ChainObservation>) -> Result<(), Failure> {
        observed.into_iter().try_for_each(|observation| match observation {
            ChainObservation::Intact(head) => print(&format!("{head}\n")),
            ChainObservation::Faulty(finding) => {
                let count = if finding.fault.is_unchecked() {
                    &mut self.unchecked
                } else {
                    &mut self.findings
                };
                *count += 1;
                print(&format!("{finding}\n"))
            }
        })
    }
}

/// Verifies the audit logs of all organizations, including deleted ones and the deployment's own,
/// and prints the head of each intact chain and every finding. `heads`, and those in `files` (logs,
/// or lists of heads), are earlier heads to compare the chains with.
///
/// # Errors
/// There are findings, or parts cannot be checked because a pepper is not configured; a head is
/// malformed; the configuration is invalid, or the database does not respond.
pub fn verify(heads: &[String], files: &[PathBuf]) -> Result<(), Failure> {
    let VerificationInput { heads, signing_starts } = read_input(heads, files)?;
    let config = load_config()?;
    with_app(config, async |app| {
        let count = heads.len();
        let mut verification = ChainVerifier::with_known_heads(app.audit_signer.clone(), heads);
        let mut counts = FindingCounts::default();
        let start = audit::signing_start(app).await?;
        if let Some(fault) = signing_start_fault(start.as_ref(), &signing_starts) {
            let organization = "system".to_owned();
            counts.report(vec![ChainObservation::Faulty(AuditFinding { organization, fault })])?;
        }
        verify_all(app, &mut verification, &mut counts).await?;
        let (chains, links) = verification.counts;
        let mut summary =
            format!("{links} events in {chains} chains, {count} heads to compare with");
        if let (older @ 1.., Some((start, _))) = (verification.unsigned, start) {
            let since = start.started_at.to_rfc3339_opts(SecondsFormat::Micros, true);
            let _ = write!(summary, ", {older} events from before signing began ({since})");
        }
        if verification.pruned > 0 {
            let _ = write!(summary, ", {} older events removed by retention", verification.pruned);
        }
        summarize(&summary, &counts)
    })
}

/// Returns the fault of the stored start of signing, if any: its MAC does not match, or it is later
/// than the server log states, or missing although the log states one.
fn signing_start_fault(
    start: Option<&(SigningStart, MacCheck)>,
    logged_starts: &[DateTime<Utc>],
) -> Option<AuditFault> {
    let is_later =
        |logged: &&DateTime<Utc>| start.is_none_or(|(start, _)| start.started_at > **logged);
    match start {
        Some((_, MacCheck::Invalid)) => Some(AuditFault::ForgedSigningStart),
        Some((_, MacCheck::UnknownPepper(pepper))) => {
            Some(AuditFault::UnknownSigningStartPepper(pepper.clone()))
        }
        Some((_, MacCheck::Valid)) | None => {
            logged_starts.iter().find(is_later).copied().map(AuditFault::SigningStartMismatch)
        }
    }
}

fn summarize(summary: &str, counts: &FindingCounts) -> Result<(), Failure> {
    match counts {
        FindingCounts { findings: 0, unchecked: 0 } => {
            print(&format!("{summary}: all events are unchanged\n"))
        }
        FindingCounts { findings: 0, unchecked } => Err(Failure::Message(format!(
            "{summary}: no findings, but {unchecked} parts cannot be checked: add the pepper \
             again at the end of KEY_PEPPERS"
        ))),
        FindingCounts { findings, .. } => Err(Failure::Message(format!(
            "{summary}: {findings} findings. Someone with access to the database changed it \
             outside the application: save Postgres' log and this output, and compare with a backup"
        ))),
    }
}

/// Reads the evidence from the command line and from files.
fn read_input(heads: &[String], files: &[PathBuf]) -> Result<VerificationInput, Failure> {
    let heads = heads.iter().map(|text| {
        let head = ChainHead::find_in_line(text).ok().flatten();
        head.ok_or_else(|| Failure::Message(format!("{text}: a head must be ORG:POSITION:DIGEST")))
    });
    let mut input =
        VerificationInput { heads: heads.collect::<Result<_, _>>()?, signing_starts: Vec::new() };
    for file in files {
        let file_error = |why: String| Failure::Message(format!("{}: {why}", file.display()));
        for (index, line) in lines(file).map_err(|error| file_error(error.to_string()))?.enumerate()
        {
            let line = line.map_err(|error| file_error(error.to_string()))?;
            let line = String::from_utf8_lossy(&line);
            let head = ChainHead::find_in_line(&line);
            let head =
                head.map_err(|why| file_error(format!("line {}: a head {why}", index + 1)))?;
            input.heads.extend(head);
            input.signing_starts.extend(parse_signing_since(&line));
        }
    }
    if input.heads.is_empty() && !files.is_empty() {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::Message(format!("no head found in {}", files.join(", "))));
    }
    Ok(input)
}

fn lines(file: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let source: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file)?))
    };
    Ok(source.split(b'\n'))
}

/// Verifies all chains, and finds events that are in no chain.
async fn verify_all(
    app: &App,
    verification: &mut ChainVerifier,
    counts: &mut FindingCounts,
) -> Result<(), Failure> {
    loop {
        let last = verification.last();
        let links =
            app.db.run(async |db| audit_chain::list_links(db, last, PAGE_SIZE).await).await?;
        if links.is_empty() {
            break;
        }
        for link in links {
            counts.report(verification.verify_link(&link))?;
        }
    }
    let without_chain =
        app.db.run(async |db| audit_heads::list_heads_without_chain(db).await).await?;
    counts.report(verification.finish(without_chain))?;
    let mut last = i64::MIN;
    loop {
        let batch =
            app.db.run(async |db| audit_chain::list_unlinked_events(db, last, PAGE_SIZE).await);
        let (unlinked, next) = batch.await?;
        for (organization, event) in unlinked {
            let fault = AuditFault::UnlinkedEvent(event);
            counts.report(vec![ChainObservation::Faulty(AuditFinding { organization, fault })])?;
        }
        match next {
            Some(next) => last = next,
            None => return Ok(()),
        }
    }
}
