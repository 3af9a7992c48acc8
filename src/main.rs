//! The binary: parses the command line and runs the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use tenantry::commands::{
    Failure, audit, doctor, janitor, key, key_import, mail, migrate, openapi, org,
    private_postgres, serve,
};
use tenantry::model::leak::LeakPolicy;
use tenantry::model::mail::MailKind;
use tenantry::model::organization::BusinessDomain;
use tenantry::model::plan::Plan;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves signup, accounts, organizations, API keys, limits and an audit log on one Postgres.
/// Settings are environment variables; `.env.example` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API. This is the default command.
    Serve,
    /// Apply pending migrations to the database, then exit.
    Migrate,
    /// Check the configuration, secrets, database and mail, and print what needs attention. Changes
    /// no data, and may start the private Postgres.
    Doctor,
    /// Print the description of the API, the contents of `openapi.yaml`.
    Openapi,
    /// Check, count and import API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Create, suspend and reactivate organizations, and replace their keys.
    #[command(subcommand)]
    Org(OrgCommand),
    /// Retry mail that could not be delivered, and failed reports of leaked keys.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Verify the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Run a program such as `pg_dump`, `pg_restore` or `psql`, connected to the private Postgres.
    Postgres {
        /// The program.
        program: String,
        /// The program's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Upgrade the data of the private Postgres to the newest installed major version. The old data
    /// directory stays beside the new one.
    PostgresUpgrade {
        /// The folder with the programs of the Postgres to upgrade to.
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Stop the private Postgres when the last process that uses it has exited.
    #[command(hide = true)]
    PostgresJanitor {
        /// The folder of the cluster.
        home: PathBuf,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Check whether a text is a well-formed key of this deployment. Works offline.
    Check {
        /// The text; `-` reads standard input, which keeps the key out of the shell's history.
        text: String,
    },
    /// Print a regular expression that matches keys of this deployment, for secret scanners.
    Pattern {
        /// Print everything that GitHub's secret scanning partner program asks for.
        #[arg(long)]
        github: bool,
    },
    /// Count the live keys and personal access tokens that each pepper digests.
    Peppers,
    /// Import keys that another system created: all keys in the file, or none.
    Import {
        /// A file with one JSON object per line: `org_id`, `key` or `sha256` (hex), `name`,
        /// `scopes`, `expires_at`; `-` reads standard input.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum OrgCommand {
    /// Create an organization and print its first key.
    Create {
        /// The organization's id: 1 to 64 letters, digits, hyphens or underscores.
        org_id: String,
        /// The organization's name; defaults to its id.
        #[arg(long)]
        name: Option<String>,
        /// The organization's business domain.
        #[arg(long, default_value = "general",
              value_parser = PossibleValuesParser::new(BusinessDomain::ALL.map(|(_, word)| word)))]
        domain: String,
        /// The organization's plan.
        #[arg(long, default_value = "trial",
              value_parser = PossibleValuesParser::new(Plan::ALL.map(|(_, word)| word)))]
        tier: String,
        /// Browser origins that may use its keys, separated by commas; defaults to every origin.
        #[arg(long)]
        allowed_origins: Option<String>,
        /// What is done with its keys that are reported as leaked.
        #[arg(long, default_value = LeakPolicy::default().as_str(),
              value_parser = PossibleValuesParser::new(LeakPolicy::ALL.map(|(_, word)| word)))]
        leak_policy: String,
    },
    /// Suspend an organization. Its credentials are rejected until it is reactivated.
    Suspend {
        /// The organization's id.
        org_id: String,
    },
    /// Reactivate a suspended organization. Its existing keys work again.
    Reactivate {
        /// The organization's id.
        org_id: String,
    },
    /// Revoke every key of an organization and print a new one.
    Rotate {
        /// The organization's id.
        org_id: String,
    },
}

fn run_org(command: &OrgCommand) -> Result<(), Failure> {
    match command {
        OrgCommand::Create { org_id, name, domain, tier, allowed_origins, leak_policy } => {
            org::create(&org::CreateOrganizationArguments {
                org_id,
                name: name.as_deref(),
                domain,
                tier,
                allowed_origins: allowed_origins.as_deref(),
                leak_policy,
            })
        }
        OrgCommand::Suspend { org_id } => org::suspend(org_id),
        OrgCommand::Reactivate { org_id } => org::reactivate(org_id),
        OrgCommand::Rotate { org_id } => org::rotate(org_id),
    }
}

#[derive(Subcommand)]
enum MailCommand {
    /// Retry mail and reports of leaked keys that were given up: all of them, or one kind of mail.
    Retry {
        /// The kind of mail; defaults to all kinds, and reports of leaked keys.
        #[arg(long, value_parser = PossibleValuesParser::new(MailKind::NAMES))]
        kind: Option<String>,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check that no audit event was changed, removed, moved or added outside the application.
    Verify {
        /// An earlier chain head, `ORG:POSITION:DIGEST`. Without one, here or in `--heads`, chains
        /// are compared only with the heads in the database, which an attacker may have replaced.
        #[arg(long)]
        head: Vec<String>,
        /// A file with chain heads: a server log (text or JSON), or one head per line; `-` reads
        /// standard input.
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
        Command::Key(KeyCommand::Pattern { github: false }) => key::pattern(),
        Command::Key(KeyCommand::Pattern { github: true }) => key::github_form(),
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
