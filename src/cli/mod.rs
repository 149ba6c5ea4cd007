//! The command line: one file per verb.

mod check;
mod demo;
mod doctor;
mod health;
mod observe;
mod probe;
mod request;
mod run;
mod shell;
mod tail;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{self, Overrides};
use crate::telemetry;

/// A reverse-proxy sidecar that adds push to applications that only know polling.
#[derive(Debug, Parser)]
#[command(name = "sungrazer", version, about, max_term_width = 100)]
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
    /// Run the proxy in front of the application (the default)
    Run(RunArgs),
    /// Check the configuration: report mistakes and settings without effect
    Check(check::CheckArgs),
    /// Fetch a URL several times, find parts that change by themselves, and print a configuration for it
    Probe(probe::ProbeArgs),
    /// Pass everything through, and report what is polled and what push would save; or read that from an access log
    Observe(observe::ObserveArgs),
    /// Test whether streams get through from here to a Sungrazer, and print settings that repair the path
    Doctor(doctor::DoctorArgs),
    /// Follow a URL and show its changes
    Tail(tail::TailArgs),
    /// Show a page that polls, and the same page pushed, side by side
    Demo(demo::DemoArgs),
    /// Ask a running server whether it is ready; the exit code is the answer
    Health(HealthArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions {
        /// Shell to print them for
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Write it into this folder instead, with a page for each verb
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
    /// Public listener: the address at which clients reach the application through Sungrazer [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_LISTEN")]
    listen: Option<String>,
    /// Admin listener: the address of the dashboard, metrics and health, or "off" [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_ADMIN")]
    admin: Option<String>,
}

/// `health`
#[derive(Clone, Debug, Args)]
struct HealthArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Address of the server's admin listener [default: as the configuration says]
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

/// The exit code of a failure.
const FAILED: u8 = 1;

/// The exit code of wrong usage or an invalid configuration.
const USAGE: u8 = 2;

impl Cli {
    /// Parses the command line. Exits the process on an error.
    pub fn from_command_line() -> Self {
        let matches = Self::command().get_matches();
        Self::of(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Flags of `run` may precede the verb. Verbs that do not accept them must reject them.
    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let verb = matches.subcommand_name().filter(|verb| !["run", "check"].contains(verb));
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let (Some(verb), Some(flag)) =
            (verb, ["config", "upstream", "listen", "admin"].into_iter().find(|id| is_given(id)))
        {
            let text =
                format!("--{flag} before \"{verb}\" means nothing: see sungrazer {verb} --help for what it takes\n");
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        let mut cli = Self::from_arg_matches(matches)?;
        let (args, own) = match (&mut cli.verb, matches.subcommand()) {
            (Some(Verb::Run(args)), Some((_, own))) => (args, own),
            (Some(Verb::Check(args)), Some((_, own))) => (&mut args.run, own),
            _ => return Ok(cli),
        };
        // Flags take precedence over the environment, in either position.
        let before = |id: &str| is_given(id) && own.value_source(id) != Some(ValueSource::CommandLine);
        for (id, value, other) in [
            ("upstream", &mut args.upstream, &cli.run.upstream),
            ("listen", &mut args.listen, &cli.run.listen),
            ("admin", &mut args.admin, &cli.run.admin),
        ] {
            if before(id) {
                value.clone_from(other);
            }
        }
        if before("config") {
            args.file.config.clone_from(&cli.run.file.config);
        }
        Ok(cli)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Returns errors that end the process with exit code 1; wrong usage is reported here and returned as code 2.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Err(error) = telemetry::init(&self.log.log, self.log.log_format) {
            return Ok(usage(&format!("SUNGRAZER_LOG or --log: {error}")));
        }
        match self.verb {
            None => run::run(&self.run),
            Some(Verb::Run(args)) => run::run(&args),
            Some(Verb::Check(args)) => check::check(&args),
            Some(Verb::Probe(args)) => probe::probe(&args),
            Some(Verb::Observe(args)) => observe::observe(&args),
            Some(Verb::Doctor(args)) => doctor::doctor(&args),
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
    /// Returns the file to read: the given one, else the default one if it exists.
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

/// Prints a line of the program's own output.
#[allow(clippy::print_stdout, reason = "what was asked for goes to stdout")]
fn say(text: &str) {
    use std::io::Write;
    // A closed stdout is ignored.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints the complete output. A closed stdout is not a failure.
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

/// Prints a note besides the output.
#[allow(clippy::print_stderr, reason = "what was asked for is on stdout")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// Reports wrong usage.
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
