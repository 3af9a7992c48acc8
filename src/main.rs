//! The binary: what it can be told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use tenantry::commands::{
    Failure, audit, doctor, janitor, key, key_import, mail, migrate, openapi, org,
    private_postgres, serve,
};
use tenantry::model::mail::MailKind;
use tenantry::model::organization::BusinessDomain;
use tenantry::model::plan::Plan;

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
    /// Make organizations, and step in where their keys are in wrong hands.
    #[command(subcommand)]
    Org(OrgCommand),
    /// See to mail that could not be sent.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Look at the trails of what happened.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Run a program such as `pg_dump`, `pg_restore` or `psql`, connected to the private Postgres.
    Postgres {
        /// The program.
        program: String,
        /// What it is to be told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Move the data of the private Postgres to the newest major version that is installed. The old
    /// data is kept beside it.
    PostgresUpgrade {
        /// The folder of the programs of the Postgres to move to.
        #[arg(long)]
        to: Option<PathBuf>,
    },
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
enum OrgCommand {
    /// Make an organization, and print its first key.
    Create {
        /// Its id: 1 to 64 letters, digits, hyphens or underscores.
        org_id: String,
        /// What it is called; its id, where left out.
        #[arg(long)]
        name: Option<String>,
        /// Its line of business.
        #[arg(long, default_value = "general",
              value_parser = PossibleValuesParser::new(BusinessDomain::ALL.map(|(_, word)| word)))]
        domain: String,
        /// What it pays for.
        #[arg(long, default_value = "trial",
              value_parser = PossibleValuesParser::new(Plan::ALL.map(|(_, word)| word)))]
        tier: String,
        /// Whose pages' scripts may use its keys, separated by commas; anybody's, where left out.
        #[arg(long)]
        allowed_origins: Option<String>,
    },
    /// Suspend an organization: its credentials are refused until it is reactivated.
    Suspend {
        /// Its id.
        org_id: String,
    },
    /// Reactivate a suspended organization: the keys that it had work again.
    Reactivate {
        /// Its id.
        org_id: String,
    },
    /// End every key of an organization, and print a new one.
    Rotate {
        /// Its id.
        org_id: String,
    },
}

fn run_org(command: &OrgCommand) -> Result<(), Failure> {
    match command {
        OrgCommand::Create { org_id, name, domain, tier, allowed_origins } => {
            org::create(&org::CreateOrganizationArguments {
                org_id,
                name: name.as_deref(),
                domain,
                tier,
                allowed_origins: allowed_origins.as_deref(),
            })
        }
        OrgCommand::Suspend { org_id } => org::suspend(org_id),
        OrgCommand::Reactivate { org_id } => org::reactivate(org_id),
        OrgCommand::Rotate { org_id } => org::rotate(org_id),
    }
}

#[derive(Subcommand)]
enum MailCommand {
    /// Try mails again that were given up: all, or those of one kind.
    Retry {
        /// Which kind.
        #[arg(long, value_parser = PossibleValuesParser::new(MailKind::WORDS))]
        kind: Option<String>,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Find out whether any event was changed, removed, moved or added past the application.
    Verify {
        /// The head that a chain had at some time, `ORG:POSITION:DIGEST`: without one, a chain that
        /// was cut off at its end looks whole.
        #[arg(long)]
        head: Vec<String>,
        /// A file with such heads: the log, text or JSON, or a list; `-` reads standard input.
        #[arg(long)]
        heads: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Migrate => migrate::run(),
        Command::Doctor => doctor::run(),
        Command::Openapi => openapi::run(),
        Command::Key(KeyCommand::Check { text }) => key::check(&text),
        Command::Key(KeyCommand::Pattern) => key::pattern(),
        Command::Key(KeyCommand::Peppers) => key::peppers(),
        Command::Key(KeyCommand::Import { file }) => key_import::run(&file),
        Command::Org(command) => run_org(&command),
        Command::Mail(MailCommand::Retry { kind }) => mail::retry(kind.as_deref()),
        Command::Audit(AuditCommand::Verify { head, heads }) => audit::verify(&head, &heads),
        Command::Postgres { program, arguments } => private_postgres::run(&program, &arguments),
        Command::PostgresUpgrade { to } => private_postgres::upgrade(to.as_deref()),
        Command::PostgresJanitor { home } => janitor::run(&home),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tenantry: {failure}");
            ExitCode::FAILURE
        }
    }
}
