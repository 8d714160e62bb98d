//! The command line.

mod file;
mod variables;

use std::env;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use file::Settings;
use ipnet::IpNet;
use serde_json::json;
use shards::limits::{COMMIT_RECORDS_MAX, SHARD_COUNT_MAX};
use shards::outcome::UserView;

use crate::account_limits::{AccountLimits, CHANGES_PER_SECOND_MAX};
use crate::admin;
use crate::config::{Config, IDEMPOTENCY_KEYS_MAX_DEFAULT, Storage};
use crate::demo::{self, DemoOptions};
use crate::front::cors::Origin;
use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;
use crate::front::issuers::IssuerOption;
use crate::front::proxies::TrustedProxies;
use crate::front::registration::Registration;
use crate::logging::{self, LogFormat, LogLevel};
use crate::mesh::{CALLS_IN_FLIGHT_DEFAULT, CALLS_IN_FLIGHT_MAX, CALLS_IN_FLIGHT_MIN};
use crate::passwords::{REGISTRATIONS_PER_HOUR_DEFAULT, REGISTRATIONS_PER_HOUR_MAX};
use crate::repair;
use crate::rt::ExecutorChoice;
use crate::secret;
use crate::server::{self, default_shard_count};
use crate::version;

/// An event ticket reservation server: no ticket sold twice, no sale lost.
#[derive(Debug, Parser)]
#[command(name = "boxoffice", version, long_version = version::LONG.as_str(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Configuration file: TOML, whose keys are the long names of the server's options. Variables and
    /// options go before it. On SIGHUP, the server reads it again
    #[arg(long, global = true, env = "BOXOFFICE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Format of the log on standard error
    #[arg(long, global = true, value_enum, default_value = "human", env = "BOXOFFICE_LOG_FORMAT")]
    log_format: LogFormat,

    /// Lowest level to log
    #[arg(
        long,
        global = true,
        value_enum,
        ignore_case = true,
        default_value = "info",
        env = "BOXOFFICE_LOG",
        value_name = "LEVEL"
    )]
    log: LogLevel,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C, then finish requests in flight and exit
    Serve(Box<ServeOptions>),
    /// Sell tickets to 80 simulated buyers, kill the server, restart it, and prove that no
    /// acknowledged reservation was lost
    Demo(DemoOptions),
    /// Print the configuration that the server would have, as a file, with where each value comes from
    Config(Box<ServeOptions>),
    /// Manage accounts while the server is stopped: make admins, list, set passwords, end tokens
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Print the script that completes commands and options in a shell
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages of all commands into a directory
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Bring up a data directory whose logs are whole, but which lost a mark or its manifest, while
    /// the server is stopped. Says what it would do, and changes nothing without --write
    #[command(after_help = repair::EXIT_CODES)]
    Repair(RepairOptions),
}

#[derive(Debug, Args)]
struct RepairOptions {
    /// Data directory
    #[arg(long, default_value = "./boxoffice-data", env = "BOXOFFICE_DATA", value_name = "DIR")]
    data: PathBuf,

    /// Do it. Files that are replaced are kept beside the new ones, as NAME.before-repair-1
    #[arg(long)]
    write: bool,

    /// Also write a mark where nothing proves that the log is complete. If records are missing at its
    /// end, this accepts their loss
    #[arg(long)]
    accept_unproven: bool,
}

#[derive(Debug, Args)]
struct ServeOptions {
    #[command(flatten)]
    data: DataOption,

    /// Address and port to listen on; with port 0, the server chooses a free port and prints it
    #[arg(long, default_value = "127.0.0.1:9092", env = "BOXOFFICE_LISTEN", value_name = "ADDR", value_parser = address)]
    listen: SocketAddr,

    /// Number of shards, each with its own thread; may change between starts [1 to 64; default: the
    /// CPUs]
    #[arg(long, env = "BOXOFFICE_SHARDS", value_name = "N", value_parser = shard_count)]
    shards: Option<usize>,

    /// Where to store acknowledged changes
    #[arg(long, value_enum, default_value = "sqlite", env = "BOXOFFICE_STORAGE")]
    storage: Storage,

    /// What runs the tasks of the shards' threads; the log says which one it is, and why
    #[arg(long, value_enum, default_value = "auto", env = "BOXOFFICE_EXECUTOR")]
    executor: ExecutorChoice,

    /// Enable GET /api/v1/pop, which creates users with a known password; only on a loopback address
    #[arg(long, env = "BOXOFFICE_DEMO", value_parser = switch)]
    demo: bool,

    /// Maximum number of open connections, of which one address may have 15 of 16; further ones are
    /// answered 503 and closed [1 or more; default: the limit on open files minus 512]
    #[arg(long, env = "BOXOFFICE_MAX_CONNECTIONS", value_name = "N", value_parser = connection_count)]
    max_connections: Option<usize>,

    /// Address or network of a proxy, which names the client in X-Forwarded-For or Forwarded, and
    /// may take every connection; may be repeated, or a list with commas
    #[arg(long, env = "BOXOFFICE_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',', value_parser = TrustedProxies::network)]
    trusted_proxy: Vec<IpNet>,

    /// Trust every peer like a --trusted-proxy; use only where nobody but a proxy can connect
    #[arg(long, env = "BOXOFFICE_TRUST_FORWARDED_FOR", value_parser = switch)]
    trust_forwarded_for: bool,

    /// Origin whose pages may call the API from a browser, or * for all; may be repeated, or a list with
    /// commas [default: none]
    #[arg(long, env = "BOXOFFICE_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',', value_parser = Origin::new)]
    cors_origin: Vec<Origin>,

    /// Another issuer, whose tokens stand for customers: name=NAME,iss=ISS,aud=AUD,keys=FILE. NAME is
    /// for ever, ISS and AUD are what its tokens say, FILE is its JWK set, read again when it
    /// changes; may be repeated, or a list with blanks [default: none]
    #[arg(long, env = "BOXOFFICE_ISSUER", value_name = "ISSUER", value_delimiter = ' ')]
    issuer: Vec<IssuerOption>,

    /// Who may register an account; an admin makes accounts of every role at any time, and the first
    /// admin is made by `boxoffice admin create`
    #[arg(long, value_enum, default_value = "customers", env = "BOXOFFICE_REGISTRATION")]
    registration: Registration,

    /// Maximum number of registrations per hour from one address (IPv6: one /64), with all of an hour
    /// at once; further ones are answered 429 [1 to 1000000]
    #[arg(long, env = "BOXOFFICE_REGISTRATIONS_PER_HOUR", value_name = "N", default_value_t = REGISTRATIONS_PER_HOUR_DEFAULT, value_parser = registration_count)]
    registrations_per_hour: u32,

    /// Maximum number of requests in flight per core; further ones are answered 503 and change
    /// nothing [64 to 65536]
    #[arg(long, env = "BOXOFFICE_MAX_IN_FLIGHT", value_name = "N", default_value_t = CALLS_IN_FLIGHT_DEFAULT, value_parser = in_flight_count)]
    max_in_flight: usize,

    /// Maximum number of changes per commit; with 1, each change has its own commit [1 to 65536]
    #[arg(long, env = "BOXOFFICE_MAX_BATCH", value_name = "N", default_value_t = COMMIT_RECORDS_MAX, value_parser = batch_size)]
    max_batch: usize,

    /// Maximum number of idempotency keys that are kept, each for 24 to 25 hours, in equal parts by the
    /// shards; a request with another one is answered 503 and changes nothing [0 to 4294967295; 0: no
    /// limit]
    #[arg(long, env = "BOXOFFICE_MAX_IDEMPOTENCY_KEYS", value_name = "N", default_value_t = IDEMPOTENCY_KEYS_MAX_DEFAULT, value_parser = account_limit)]
    max_idempotency_keys: u32,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    accounts: AccountOptions,

    #[command(flatten)]
    timeouts: TimeoutOptions,
}

/// The size limits of requests.
#[derive(Debug, Args)]
struct LimitOptions {
    /// Maximum length of a request target in bytes; a longer one is answered 414 [256 to 32768]
    #[arg(long, env = "BOXOFFICE_MAX_TARGET", value_name = "BYTES", default_value_t = Limits::default().target_bytes, value_parser = target_bytes)]
    max_target: usize,

    /// Maximum length of a request head in bytes; a longer one is answered 431 [1024 to 65535]
    #[arg(long, env = "BOXOFFICE_MAX_HEAD", value_name = "BYTES", default_value_t = Limits::default().head_bytes, value_parser = head_bytes)]
    max_head: usize,

    /// Maximum number of header fields of a request; more are answered 431 [16 to 1024]
    #[arg(long, env = "BOXOFFICE_MAX_FIELDS", value_name = "N", default_value_t = Limits::default().fields, value_parser = field_count)]
    max_fields: usize,

    /// Maximum length of a request body in bytes; a longer one is answered 413 [4096 to 16777216]
    #[arg(long, env = "BOXOFFICE_MAX_BODY", value_name = "BYTES", default_value_t = Limits::default().body_bytes, value_parser = body_bytes)]
    max_body: usize,
}

/// The limits of each account. Above them, a request is answered 429 and changes nothing.
#[derive(Debug, Args)]
struct AccountOptions {
    /// Maximum number of changes of an account at once, per core: requests that change something,
    /// except reservations and holds [0 to 4294967295; 0: no limit]
    #[arg(long, env = "BOXOFFICE_MAX_CHANGES_PER_ACCOUNT", value_name = "N", default_value_t = AccountLimits::default().changes, value_parser = account_limit)]
    max_changes_per_account: u32,

    /// Number of changes that an account regains per second, per core [1 to 1000000]
    #[arg(long, env = "BOXOFFICE_CHANGES_PER_SECOND", value_name = "N", default_value_t = AccountLimits::default().changes_per_second, value_parser = rate)]
    changes_per_second: u32,

    /// Maximum number of events that an account may create, deleted ones included [0 to 4294967295;
    /// 0: no limit]
    #[arg(long, env = "BOXOFFICE_MAX_EVENTS_PER_ACCOUNT", value_name = "N", default_value_t = AccountLimits::default().events, value_parser = account_limit)]
    max_events_per_account: u32,

    /// Maximum number of reservations and holds of an account in each shard, cancelled and expired ones
    /// included [0 to 4294967295; 0: no limit]
    #[arg(long, env = "BOXOFFICE_MAX_RESERVATIONS_PER_ACCOUNT", value_name = "N", default_value_t = AccountLimits::default().reservations, value_parser = account_limit)]
    max_reservations_per_account: u32,
}

/// The time limits for clients.
#[derive(Debug, Args)]
struct TimeoutOptions {
    /// Seconds for receiving a request head, from its first byte [0.1 to 86400]
    #[arg(long, env = "BOXOFFICE_HEAD_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    head_timeout: Duration,

    /// Seconds before a request body must arrive at 1 KiB per second or faster [0.1 to 86400]
    #[arg(long, env = "BOXOFFICE_BODY_GRACE", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    body_grace: Duration,

    /// Seconds that a connection may be idle between requests [0.1 to 86400]
    #[arg(long, env = "BOXOFFICE_IDLE_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,

    /// Seconds that a client may leave a response unread [0.1 to 86400]
    #[arg(long, env = "BOXOFFICE_STALL_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    stall_timeout: Duration,
}

#[derive(Debug, Args)]
struct DataOption {
    /// Data directory; created if it does not exist
    #[arg(long, default_value = "./boxoffice-data", env = "BOXOFFICE_DATA", value_name = "DIR")]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Create an admin account. The password is read from BOXOFFICE_ADMIN_PASSWORD, the file that
    /// BOXOFFICE_ADMIN_PASSWORD_FILE names, or systemd's credential admin-password, else from the
    /// terminal or standard input
    Create {
        #[command(flatten)]
        data: DataOption,

        /// 3 to 64 characters, each one of a-z 0-9 . _ -
        #[arg(long)]
        username: String,
    },
    /// Print all accounts: id, role and username of each
    List {
        #[command(flatten)]
        data: DataOption,

        /// Print a JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Give an account another password, which ends its tokens and API keys. The password is read as
    /// `create` does
    SetPassword {
        #[command(flatten)]
        data: DataOption,

        #[arg(long)]
        username: String,
    },
    /// End all tokens of an account; its API keys stay
    EndTokens {
        #[command(flatten)]
        data: DataOption,

        #[arg(long)]
        username: String,
    },
}

/// What the program was told to do.
struct Invocation {
    cli: Cli,
    matches: ArgMatches,
    /// What the configuration file says.
    settings: Settings,
}

impl Invocation {
    /// Reads arguments, variables and the configuration file.
    fn read(command: &clap::Command) -> Result<Invocation, clap::Error> {
        let named = |error, file| variables::name_source(suggest_listen(error), command, file);
        let without_file = command.clone().try_get_matches().map_err(|error| named(error, None))?;
        let Some(path) = without_file.get_one::<PathBuf>("config") else {
            return Invocation::new(without_file, Settings::default());
        };
        let serve = command.find_subcommand("serve").expect("the program serves");
        let settings = Settings::read(path, serve).map_err(|error| variables::refusal(&error))?;
        let (subcommand, given) = subcommand(command, &without_file);
        let arguments = env::args_os().chain(settings.arguments(subcommand, given));
        let matches = command.clone().try_get_matches_from(arguments);
        let path = path.display().to_string();
        let matches = matches.map_err(|error| named(error, Some((&settings, &path))))?;
        Invocation::new(matches, settings)
    }

    fn new(matches: ArgMatches, settings: Settings) -> Result<Invocation, clap::Error> {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok(Invocation { cli, matches, settings })
    }

    /// The configuration in effect, as a file.
    fn effective(&self, command: &clap::Command) -> String {
        let file = self.cli.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let (options, given) = subcommand(command, &self.matches);
        let secret = match secret::GIVEN.read() {
            Ok(Some((place, _))) => format!("in {place}"),
            Ok(None) => format!("in the data directory, in {}", secret::FILE_NAME),
            Err(error) => format!("not there: {error}"),
        };
        let options = file::effective(options, given, &self.settings, &file);
        format!("{options}# the token secret is {secret}\n")
    }
}

/// The subcommand that was given, also of a subcommand, and its options.
fn subcommand<'a>(
    command: &'a clap::Command,
    matches: &'a ArgMatches,
) -> (&'a clap::Command, &'a ArgMatches) {
    match matches.subcommand() {
        Some((name, matches)) => subcommand(command.find_subcommand(name).expect("it was given"), matches),
        None => (command, matches),
    }
}

/// Reads the configuration again, and does at once what can be done while the server runs. `started` is what the file
/// said at the start.
fn reload(command: &clap::Command, started: &Settings) {
    match Invocation::read(command) {
        Ok(Invocation { cli, settings, .. }) => {
            logging::set_level(cli.log);
            let at_start: Vec<_> =
                started.changed(&settings).into_iter().filter(|name| name != "log").collect();
            let log = format!("{:?}", cli.log).to_lowercase();
            if at_start.is_empty() {
                tracing::info!(log, "read the configuration again");
            } else {
                let needs_start = at_start.join(", ");
                tracing::warn!(log, needs_start, "read the configuration again; some of it needs a restart");
            }
        }
        Err(error) => {
            let error = error.to_string();
            let error = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
            tracing::error!(error, "the configuration was not read again, and stays as it was");
        }
    }
}

/// Parses the arguments, runs the subcommand, and returns the exit code.
pub fn main() -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let invocation = Invocation::read(&command).unwrap_or_else(|error| error.exit());
    let warnings = variables::check_names(&command).unwrap_or_else(|error| error.exit());
    if matches!(invocation.cli.command, Command::Config(_)) {
        // Nobody is left to tell that nobody reads it.
        let _ = io::stdout().write_all(invocation.effective(&command).as_bytes());
        return ExitCode::SUCCESS;
    }
    let Invocation { cli, settings, .. } = invocation;
    logging::start(cli.log_format, cli.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let result: Result<ExitCode, Box<dyn std::error::Error>> = match cli.command {
        Command::Serve(options) => {
            let reload =
                cli.config.map(|_| -> server::Reload { Box::new(move || reload(&command, &settings)) });
            let served = server::run(&options.config(cli.log_format), reload);
            served.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Config(_) => unreachable!("it was printed"),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "boxoffice", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { directory } => clap_mangen::generate_to(Cli::command(), &directory)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("write manual pages into {}: {error}", directory.display()).into()),
        Command::Demo(options) => demo::run(options).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Admin { command } => command.run().map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Repair(RepairOptions { data, write, accept_unproven }) => {
            repair::run(&data, write, accept_unproven).map(Into::into).map_err(Into::into)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            logging::report(cli.log_format, &format!("boxoffice: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl AdminCommand {
    fn run(self) -> Result<(), admin::AdminError> {
        let done = match self {
            AdminCommand::Create { data, username } => {
                let id = admin::create(&data.data, &username)?;
                format!("admin {username} created, id {id}\n")
            }
            AdminCommand::List { data, json } => {
                let users = admin::list(&data.data)?;
                users.iter().map(|user| user_line(user, json)).collect()
            }
            AdminCommand::SetPassword { data, username } => {
                admin::set_password(&data.data, &username)?;
                format!("{username} has another password, and no tokens\n")
            }
            AdminCommand::EndTokens { data, username } => {
                admin::end_tokens(&data.data, &username)?;
                format!("{username} has no tokens\n")
            }
        };
        // It is done, whether or not somebody reads this.
        let _ = io::stdout().write_all(done.as_bytes());
        Ok(())
    }
}

fn user_line(UserView { id, username, role }: &UserView, json: bool) -> String {
    let role = role.as_str();
    if json {
        format!("{}\n", json!({ "id": id, "username": username.as_str(), "role": role }))
    } else {
        format!("{id:>8}  {role:<9}  {}\n", username.as_str())
    }
}

impl ServeOptions {
    fn config(self, log_format: LogFormat) -> Config {
        Config {
            log_format,
            data: self.data.data,
            listen: self.listen,
            shard_count: self.shards.unwrap_or_else(default_shard_count),
            storage: self.storage,
            executor: self.executor,
            demo: self.demo,
            proxies: TrustedProxies { networks: self.trusted_proxy, every_peer: self.trust_forwarded_for },
            connections_max: self.max_connections,
            registration: self.registration,
            cors_origins: self.cors_origin,
            issuers: self.issuer,
            registrations_per_hour: self.registrations_per_hour,
            calls_in_flight_max: self.max_in_flight,
            batch_max: self.max_batch,
            idempotency_keys_max: self.max_idempotency_keys.into(),
            limits: Limits {
                target_bytes: self.limits.max_target,
                head_bytes: self.limits.max_head,
                fields: self.limits.max_fields,
                body_bytes: self.limits.max_body,
            },
            account_limits: AccountLimits {
                changes: self.accounts.max_changes_per_account,
                changes_per_second: self.accounts.changes_per_second,
                events: self.accounts.max_events_per_account,
                reservations: self.accounts.max_reservations_per_account,
            },
            timeouts: Timeouts {
                head: self.timeouts.head_timeout,
                body_grace: self.timeouts.body_grace,
                idle: self.timeouts.idle_timeout,
                stalled: self.timeouts.stall_timeout,
            },
        }
    }
}

/// Names the option for those who look for it under another name.
fn suggest_listen(mut error: clap::Error) -> clap::Error {
    const OTHER_NAMES: [&str; 5] = ["--port", "--host", "--bind", "--address", "-p"];
    if let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg)
        && OTHER_NAMES.contains(&&**unknown)
    {
        let tip = "address and port are given by --listen, like --listen 127.0.0.1:9092";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
        return Err(format!(
            "give an address before the port: 127.0.0.1:{port} for clients on this machine, [::]:{port} for all"
        ));
    }
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; give an address and a port, like 127.0.0.1:9092 or [::]:9092"))?;
    addresses.next().ok_or_else(|| "the host name has no address".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match &*text.to_ascii_lowercase() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be 1, true, yes or on, or 0, false, no or off".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a number of seconds from 0.1 to 86400".to_owned())
}

fn connection_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|&count| count >= 1);
    count.ok_or_else(|| "must be a whole number of at least 1".to_owned())
}

fn shard_count(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=SHARD_COUNT_MAX)
}

fn registration_count(text: &str) -> Result<u32, String> {
    whole_number(text, 1..=REGISTRATIONS_PER_HOUR_MAX as usize).map(|count| count as u32)
}

fn in_flight_count(text: &str) -> Result<usize, String> {
    whole_number(text, CALLS_IN_FLIGHT_MIN..=CALLS_IN_FLIGHT_MAX)
}

fn batch_size(text: &str) -> Result<usize, String> {
    whole_number(text, 1..=COMMIT_RECORDS_MAX)
}

fn account_limit(text: &str) -> Result<u32, String> {
    whole_number(text, 0..=u32::MAX as usize).map(|number| number as u32)
}

fn rate(text: &str) -> Result<u32, String> {
    whole_number(text, 1..=CHANGES_PER_SECOND_MAX).map(|number| number as u32)
}

fn target_bytes(text: &str) -> Result<usize, String> {
    whole_number(text, Limits::TARGET_BYTES_RANGE)
}

fn head_bytes(text: &str) -> Result<usize, String> {
    whole_number(text, Limits::HEAD_BYTES_RANGE)
}

fn field_count(text: &str) -> Result<usize, String> {
    whole_number(text, Limits::FIELDS_RANGE)
}

fn body_bytes(text: &str) -> Result<usize, String> {
    whole_number(text, Limits::BODY_BYTES_RANGE)
}

fn whole_number(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}
