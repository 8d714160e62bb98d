//! The configuration file: TOML, whose keys are the long names of options. A variable goes before the file, and an
//! option of the command line before both.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

/// The option that names the file. It cannot stand in it.
const OPTION: &str = "config";

/// A key of the file, as the options that it stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    name: String,
    arguments: Vec<OsString>,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    /// Reads a file. `serve` has the options that it may set.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not TOML, or has a key that is no option. Values are not checked.
    pub(super) fn read(path: &Path, serve: &Command) -> Result<Settings, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        let table: Table = toml::from_str(&text).map_err(|error| failed(&error))?;
        let settings = table.into_iter().map(|(name, value)| setting(name, value, serve));
        settings.collect::<Result<_, _>>().map(Settings).map_err(|error| failed(&error))
    }

    /// The options of a command that the file sets, and nothing else does.
    pub(super) fn arguments(&self, command: &Command, matches: &ArgMatches) -> Vec<OsString> {
        let counts = |setting: &&Setting| {
            let option = command.get_arguments().find(|option| option.get_long() == Some(&setting.name));
            let source = option.map(|option| matches.value_source(option.get_id().as_str()));
            source.is_some_and(|source| matches!(source, None | Some(ValueSource::DefaultValue)))
        };
        self.0.iter().filter(counts).flat_map(|setting| setting.arguments.clone()).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|setting| setting.name == name)
    }

    /// The keys whose values differ in two files.
    pub(super) fn changed(&self, other: &Settings) -> Vec<String> {
        let differs = |one: &&Setting, others: &Settings| !others.0.contains(one);
        let here = self.0.iter().filter(|one| differs(one, other));
        let there = other.0.iter().filter(|one| differs(one, self));
        let mut names: Vec<String> = here.chain(there).map(|one| one.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn setting(name: String, value: Value, serve: &Command) -> Result<Setting, String> {
    let options = settable(serve);
    let Some(option) = options.iter().find(|option| option.get_long() == Some(&name)) else {
        let known = options.iter().filter_map(|option| option.get_long());
        let nearest = known.max_by(|a, b| strsim::jaro(a, &name).total_cmp(&strsim::jaro(b, &name)));
        let nearest = nearest.unwrap_or_default();
        return Err(format!("`{name}` is no option of the server; the nearest is `{nearest}`"));
    };
    let arguments = match (option.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(is_on)) => {
            Vec::from_iter(is_on.then(|| format!("--{name}").into()))
        }
        (ArgAction::SetTrue, _) => return Err(format!("`{name}` must be true or false")),
        (ArgAction::Append, Value::Array(values)) => {
            values.into_iter().map(|value| argument(&name, value)).collect::<Result<_, _>>()?
        }
        (_, value) => vec![argument(&name, value)?],
    };
    Ok(Setting { name, arguments })
}

fn argument(name: &str, value: Value) -> Result<OsString, String> {
    let text = match value {
        Value::String(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            return Err(format!("`{name}` must be one text or number"));
        }
    };
    Ok(format!("--{name}={text}").into())
}

/// The options that a file may set.
fn settable(serve: &Command) -> Vec<&Arg> {
    let has_name = |option: &&Arg| option.get_long().is_some_and(|name| !["help", OPTION].contains(&name));
    serve.get_arguments().filter(has_name).collect()
}

/// The configuration as a file, with where each value comes from.
pub(super) fn effective(command: &Command, matches: &ArgMatches, settings: &Settings, file: &str) -> String {
    let mut lines = String::new();
    for option in settable(command) {
        let (id, name) = (option.get_id().as_str(), option.get_long().unwrap_or_default());
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) if settings.has(name) && !is_given(name) => file.to_owned(),
            Some(ValueSource::CommandLine) => format!("--{name}"),
            Some(ValueSource::EnvVariable) => {
                option.get_env().unwrap_or_default().to_string_lossy().into_owned()
            }
            _ => "default".to_owned(),
        };
        let line = match value(option, matches) {
            Some(value) => format!("{name} = {value}"),
            None => format!("#{name} ="),
        };
        lines.push_str(&format!("{line:<40} # {source}{}\n", default_of(option, matches)));
    }
    lines
}

/// Whether an option stands on the command line.
pub(super) fn is_given(name: &str) -> bool {
    let is_it =
        |argument: &str| argument.split('=').next().and_then(|one| one.strip_prefix("--")) == Some(name);
    std::env::args_os().any(|argument| argument.to_str().is_some_and(is_it))
}

/// An option's value in TOML; `None` if it has none.
fn value(option: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = option.get_id().as_str();
    if matches!(option.get_action(), ArgAction::SetTrue) {
        return Some(matches.get_flag(id).to_string());
    }
    let scalar = |text: &str| match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(_)) => text.to_owned(),
        _ => Value::from(text).to_string(),
    };
    let mut values = matches.get_raw(id)?.map(|value| scalar(&value.to_string_lossy()));
    match option.get_action() {
        ArgAction::Append => Some(format!("[{}]", values.collect::<Vec<_>>().join(", "))),
        _ => values.next(),
    }
}

/// What the help says of the default of an option that has no value.
fn default_of(option: &Arg, matches: &ArgMatches) -> String {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    match help.split_once("default: ") {
        Some((_, default)) if matches.get_raw(option.get_id().as_str()).is_none() => {
            format!(": {}", default.trim_end_matches(']'))
        }
        _ => String::new(),
    }
}
