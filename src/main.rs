//! The binary: what it can be told on its command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tenantry::commands::{Failure, audit, doctor, key, key_import, migrate, openapi, serve};
use tenantry::postgres;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Everything between a stranger and an authenticated request. Settings are environment
/// variables; `.env.example` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (what happens without a command, too).
    Serve,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Look whether everything that a server needs is as it should be, and say what to do where it
    /// is not. Nothing is changed.
    Doctor,
    /// Print the description of the API, as `openapi.yaml` holds it.
    Openapi,
    /// Look at the text of keys, offline.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look at the trails of what happened.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Stop the private Postgres once nobody uses it.
    #[command(hide = true)]
    PostgresJanitor {
        /// Where the cluster lives.
        home: PathBuf,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Say whether a text is a well-formed key of this deployment.
    Check {
        /// The text; `-` reads it from standard input, which leaves no trace in a shell's history.
        text: String,
    },
    /// Print the regular expression that finds keys of this deployment.
    Pattern,
    /// Count the live keys that each pepper digests.
    Peppers,
    /// Take over keys that were minted elsewhere: all of the file's, or none.
    Import {
        /// One JSON object a line: `org_id`, `key` or `sha256` (hex), `name`, `scopes`,
        /// `expires_at`; `-` reads standard input.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Find out whether any event was changed, removed or moved after it was written.
    Verify {
        /// The head that a chain had at some time, `ORG:POSITION:DIGEST`: without one, a chain that
        /// was cut off at its end looks whole.
        #[arg(long)]
        head: Vec<String>,
        /// A file with such heads: the log, text or JSON, where they are told daily, or a list; `-`
        /// reads standard input.
        #[arg(long)]
        heads: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Migrate => migrate::run(),
        Command::Doctor => doctor::run(),
        Command::Openapi => openapi::run(),
        Command::Key(KeyCommand::Check { text }) => key::check(&text),
        Command::Key(KeyCommand::Pattern) => key::pattern(),
        Command::Key(KeyCommand::Peppers) => key::peppers(),
        Command::Key(KeyCommand::Import { file }) => key_import::run(&file),
        Command::Audit(AuditCommand::Verify { head, heads }) => audit::verify(&head, &heads),
        Command::PostgresJanitor { home } => postgres::janitor(&home).map_err(Failure::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tenantry: {failure}");
            ExitCode::FAILURE
        }
    }
}
