//! The command line: one file a verb.

mod check;
mod demo;
mod health;
mod probe;
mod request;
mod run;
mod shell;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Overrides};
use crate::telemetry;

/// A reverse-proxy sidecar that adds push to applications that only know polling.
#[derive(Debug, Parser)]
#[command(name = "sungrazer", version, about, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Stand in front of the application (the default)
    Run(RunArgs),
    /// Validate the configuration, say what is wrong, change nothing
    Check(CheckArgs),
    /// Look at a URL again and again, find what of it changes by itself, and print a route for it
    Probe(probe::ProbeArgs),
    /// Follow a URL and show what changes
    Tail(tail::TailArgs),
    /// Show a page that polls, and the same page pushed, side by side
    Demo(demo::DemoArgs),
    /// Ask a running server whether it is ready, and say so with the exit code
    Health(HealthArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write it there instead, with a page for each verb
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// `run`
#[derive(Clone, Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The application: http://host:port, https://host:port or unix:/path; several separated by commas. Alone, it needs no
    /// file
    #[arg(long, value_name = "URL", env = "SUNGRAZER_UPSTREAM")]
    upstream: Option<String>,
    /// Where clients come in
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_LISTEN")]
    listen: Option<String>,
    /// Where operators come in, or "off"
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_ADMIN")]
    admin: Option<String>,
}

/// `check`
#[derive(Clone, Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    file: FileArgs,
}

/// `health`
#[derive(Clone, Debug, Args)]
struct HealthArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Where the server's operators come in [default: as the configuration says]
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_ADMIN")]
    admin: Option<String>,
    /// Only ask whether the process lives
    #[arg(long)]
    live: bool,
}

#[derive(Clone, Debug, Args)]
struct FileArgs {
    /// The configuration [default: sungrazer.toml, if it exists]
    #[arg(short, long, value_name = "FILE", env = "SUNGRAZER_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
struct LogArgs {
    /// What to log, such as "debug" or "info,sungrazer::poll=trace"
    #[arg(long, global = true, value_name = "FILTER", env = "SUNGRAZER_LOG", default_value = "info")]
    log: String,
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: telemetry::Format,
}

/// The command ran, but not as it was asked to.
const FAILED: u8 = 1;

/// The command was not understood, or the configuration is wrong.
const USAGE: u8 = 2;

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What ends the process with exit code 1; wrong use is reported here and returned as code 2.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Err(error) = telemetry::init(&self.log.log, self.log.log_format) {
            return Ok(usage(&format!("SUNGRAZER_LOG or --log: {error}")));
        }
        match self.verb {
            None => run::run(&self.run),
            Some(Verb::Run(args)) => run::run(&args),
            Some(Verb::Check(args)) => Ok(check::check(&args.file)),
            Some(Verb::Probe(args)) => probe::probe(&args),
            Some(Verb::Tail(args)) => tail::tail(&args),
            Some(Verb::Demo(args)) => demo::demo(&args),
            Some(Verb::Health(args)) => health::health(&args),
            Some(Verb::Completions { shell }) => shell::completions(shell),
            Some(Verb::Man { folder }) => shell::man(folder.as_deref()),
            Some(Verb::Schema) => {
                print(&format!("{:#}\n", config::schema()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl FileArgs {
    /// The file to read: the one that was named, else the usual one if it exists.
    fn path(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| {
            let usual = PathBuf::from("sungrazer.toml");
            usual.exists().then_some(usual)
        })
    }
}

impl RunArgs {
    fn overrides(&self) -> Overrides {
        Overrides { upstream: self.upstream.clone(), listen: self.listen.clone(), admin: self.admin.clone() }
    }
}

/// A line of the program's own output.
#[allow(clippy::print_stdout, reason = "what was asked for goes to stdout")]
fn say(text: &str) {
    use std::io::Write;
    // Nobody reads any more: nothing to be done about it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// All of what was asked for. That nobody reads it any more is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// Something beside what was asked for.
#[allow(clippy::print_stderr, reason = "what was asked for is on stdout")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// Reports wrong use.
#[allow(clippy::print_stderr, reason = "before or beside the log, to whoever typed the command")]
fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(USAGE)
}

/// Reports a failure.
#[allow(clippy::print_stderr, reason = "the last word of a command that failed")]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("sungrazer: {error:#}");
    ExitCode::from(FAILED)
}
