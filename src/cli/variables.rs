//! The environment variables of the program: errors name them, and one that is misspelled is refused. Errors name the
//! configuration file, too.

use std::env;
use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use super::file::{self, Settings};
use crate::{admin, secret};

const PREFIX: &str = "BOXOFFICE_";

/// The edits within which an unknown name is a misspelled one. Others may be for something else: Kubernetes sets
/// `BOXOFFICE_PORT` and its like in every container beside a service of that name.
const TYPOS_MAX: usize = 2;

/// Variables that no option has.
const WITHOUT_OPTION: [&str; 4] = [
    secret::GIVEN.variable,
    secret::GIVEN.file_variable,
    admin::PASSWORD.variable,
    admin::PASSWORD.file_variable,
];

/// Names the variable, or the file, in the error of a value that came from there.
pub(super) fn name_source(mut error: Error, command: &Command, file: Option<(&Settings, &str)>) -> Error {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return match env::vars_os().find(|(name, value)| is_known(command, name) && value.to_str().is_none())
        {
            Some((name, _)) => refusal(&format!("the value of {} is not UTF-8", name.display())),
            None => error,
        };
    }
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => shown.split([' ', '=']).next().unwrap_or_default().to_owned(),
        _ => return error,
    };
    let long = option.trim_start_matches('-');
    if file::is_given(long) {
        return error;
    }
    let variable = options(command).find(|one| one.get_long() == Some(long)).and_then(Arg::get_env);
    let source = match (variable.filter(|variable| env::var_os(variable).is_some()), file) {
        (Some(variable), _) => variable.to_string_lossy().into_owned(),
        (None, Some((settings, path))) if settings.has(long) => format!("{long} in {path}"),
        (None, _) => return error,
    };
    error.insert(ContextKind::InvalidArg, ContextValue::String(source));
    error
}

/// Looks for variables that the program does not have. Returns a warning for each.
///
/// # Errors
///
/// When one has almost the name of one that the program has.
pub(super) fn check_names(command: &Command) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if is_known(command, OsStr::new(name)) {
            continue;
        }
        let known = options(command).filter_map(Arg::get_env).filter_map(OsStr::to_str).chain(WITHOUT_OPTION);
        let distance = |known: &str| strsim::damerau_levenshtein(&name.to_ascii_uppercase(), known);
        let nearest = known.min_by_key(|known| distance(known)).expect("there are options");
        if distance(nearest) <= TYPOS_MAX {
            return Err(refusal(&format!(
                "the variable {name} is not known: correct it to {nearest}, or unset it"
            )));
        }
        warnings
            .push(format!("the variable {name} is not known and has no effect; the nearest is {nearest}"));
    }
    Ok(warnings)
}

fn is_known(command: &Command, name: &OsStr) -> bool {
    WITHOUT_OPTION.iter().any(|known| name == *known)
        || options(command).any(|option| option.get_env() == Some(name))
}

/// The options of a command and of all commands below it.
fn options(command: &Command) -> Box<dyn Iterator<Item = &Arg> + '_> {
    Box::new(command.get_arguments().chain(command.get_subcommands().flat_map(options)))
}

pub(super) fn refusal(text: &str) -> Error {
    Error::raw(ErrorKind::InvalidValue, format!("{text}\n"))
}
