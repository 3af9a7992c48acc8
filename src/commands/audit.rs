//! `tenantry audit …`: whether the trails are as they were written.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::app::App;
use crate::commands::migrate::{configuration, with_app};
use crate::commands::{Failure, say};
use crate::model::audit_chain::{Fault, Finding, Head, Observation, Verification};
use crate::repo::audit_chain;

/// How many rows are read at once.
const PAGE: i64 = 1000;

/// Looks at the trails of all organizations, deleted ones and the deployment's own included, and
/// says of each that it is whole, or what is wrong with it. `heads` and those in `files` (logs, or
/// lists of heads) tell what ends there were.
///
/// # Errors
/// Where anything is wrong; a text that should be a head and is none; a wrong configuration, a
/// database that does not answer.
pub fn verify(heads: &[String], files: &[PathBuf]) -> Result<(), Failure> {
    let heads = given(heads, files)?;
    let config = configuration()?;
    with_app(config, async |app| {
        let count = heads.len();
        let mut verification = Verification::against(heads);
        let wrong = look(app, &mut verification).await?;
        let (chains, links) = verification.seen;
        let told = format!("{links} events in {chains} chains, {count} heads to compare with");
        if wrong == 0 {
            return say(&format!("{told}: all as it was written\n"));
        }
        Err(Failure::Refused(format!(
            "{told}: {wrong} findings. Somebody with access to the database did this past the \
             application: keep its logs and this output, and compare with a backup"
        )))
    })
}

/// The heads that were given, of the command line and of files.
fn given(heads: &[String], files: &[PathBuf]) -> Result<Vec<Head>, Failure> {
    let heads = heads.iter().map(|text| {
        let marked = Head::find(text).ok().flatten();
        marked.ok_or_else(|| Failure::Refused(format!("{text}: a head is ORG:POSITION:DIGEST")))
    });
    let mut heads = heads.collect::<Result<Vec<_>, _>>()?;
    for file in files {
        let before = heads.len();
        let named = |why: String| Failure::Refused(format!("{}: {why}", file.display()));
        for (at, line) in lines(file).map_err(|error| named(error.to_string()))?.enumerate() {
            let line = line.map_err(|error| named(error.to_string()))?;
            let found = Head::find(&String::from_utf8_lossy(&line));
            heads.extend(found.map_err(|why| named(format!("line {}: a head {why}", at + 1)))?);
        }
        if heads.len() == before {
            return Err(named("there is no head in it".to_owned()));
        }
    }
    Ok(heads)
}

fn lines(file: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let source: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file)?))
    };
    Ok(source.split(b'\n'))
}

/// Looks at everything, a page at a time; how much is wrong.
async fn look(app: &App, verification: &mut Verification) -> Result<u64, Failure> {
    let mut wrong = 0;
    let mut tell = |observed: Vec<Observation>| {
        observed.into_iter().try_for_each(|observation| match observation {
            Observation::Whole(head) => say(&format!("{head}\n")),
            Observation::Wrong(finding) => {
                wrong += 1;
                say(&format!("{finding}\n"))
            }
        })
    };
    loop {
        let last = verification.last();
        let links = app.db.run(async |db| audit_chain::links(db, last, PAGE).await).await?;
        if links.is_empty() {
            break;
        }
        for link in links {
            tell(verification.see(link))?;
        }
    }
    tell(verification.finish())?;
    let mut last = i64::MIN;
    loop {
        let page = app.db.run(async |db| audit_chain::without_link(db, last, PAGE).await);
        let (unlinked, seen) = page.await?;
        for (organization, event) in unlinked {
            let fault = Fault::NoLink(event);
            tell(vec![Observation::Wrong(Finding { organization, fault })])?;
        }
        match seen {
            Some(seen) => last = seen,
            None => return Ok(wrong),
        }
    }
}
