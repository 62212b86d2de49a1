//! The command line and the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::Source;
use super::table::{Setting, find, settings};
use super::{Config, ConfigError, Kind};

const CONFIG: &str = "config";
const CHECK: &str = "check-config";
const PREFIX: &str = "CORRAL_";

/// What a command line turned out to be.
pub(super) enum Parsed {
    Line(Line),
    Help(String),
    Version(String),
}

/// A command line that asks to run or to check.
pub(super) struct Line {
    pub(super) file: Option<PathBuf>,
    pub(super) is_check: bool,
    matches: ArgMatches,
}

/// Takes a command line apart; its values are checked by [`Line::apply`].
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, ConfigError> {
    let mut matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.to_string();
            return if error.kind() == ErrorKind::DisplayHelp {
                Ok(Parsed::Help(text))
            } else if error.kind() == ErrorKind::DisplayVersion {
                Ok(Parsed::Version(text))
            } else {
                let text = text.trim_end();
                let text = text.strip_prefix("error: ").unwrap_or(text);
                Err(ConfigError::Usage(text.to_owned()))
            };
        }
    };
    let file = matches.remove_one::<PathBuf>(CONFIG);
    let is_check = matches.get_flag(CHECK);
    Ok(Parsed::Line(Line {
        file,
        is_check,
        matches,
    }))
}

impl Line {
    /// Gives every setting that has a flag the flag's value.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        for setting in settings() {
            let Some(value) = self.matches.get_one::<String>(setting.name) else {
                continue;
            };
            setting.assign(config, value).map_err(|error| {
                let source = Source::Flag(format!("--{}", setting.name));
                ConfigError::bad_value(source, setting, value, &error)
            })?;
        }
        Ok(())
    }
}

/// Gives every setting that has a variable the variable's value. An empty variable counts as not
/// set.
///
/// A `CORRAL_` variable that names no setting is refused, since it may be a misspelt one, except
/// for those that Kubernetes puts into every container beside a service called `corral`.
pub(super) fn apply_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    config: &mut Config,
) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        let source = Source::Variable(name.to_owned());
        let Some(value) = value.to_str() else {
            return Err(ConfigError::Refused(
                source,
                "the value is not valid UTF-8".to_owned(),
            ));
        };
        if value.is_empty() || is_service_link(name, value) {
            continue;
        }
        let key = name[PREFIX.len()..].replace('_', "-");
        let is_upper_case = !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let Some((setting, _)) = find(&key).filter(|_| is_upper_case) else {
            return Err(ConfigError::unknown(source, &key));
        };
        setting
            .assign(config, value)
            .map_err(|error| ConfigError::bad_value(source, setting, value, &error))?;
    }
    Ok(())
}

/// `CORRAL_SERVICE_HOST`, `CORRAL_PORT=tcp://10.0.0.1:6379`, `CORRAL_PORT_6379_TCP_ADDR` and such.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split("_PORT_").skip(1).any(is_port)
        || name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"))
}

/// The command line as clap understands it, derived from the table.
fn command() -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("path")
        .value_parser(ValueParser::path_buf())
        .help("The TOML file to read settings from");
    let check = Arg::new(CHECK)
        .long(CHECK)
        .action(ArgAction::SetTrue)
        .help("Read and check the settings, say whether they are valid, and exit");
    Command::new("corral")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A cache server that speaks the Redis protocol")
        .override_usage("corral [--config <path>] [--<setting> <value>]...")
        .after_help(
            "-h lists what is set most, --help everything. Each setting has the same name in the \
             file, as a CORRAL_ variable and for CONFIG GET and SET. Flags beat the environment, \
             the environment beats the file.",
        )
        .next_line_help(true)
        .max_term_width(100)
        .args([config, check])
        .args(settings().map(argument))
}

fn argument(setting: &'static Setting) -> Arg {
    let kind = setting.shape.kind;
    let has_sign = matches!(kind, Kind::Addresses);
    let default = setting.default_text();
    let default = if default.is_empty() {
        "none".to_owned()
    } else {
        default
    };
    let values = match kind {
        Kind::Choice(words) => format!(" [values: {}]", words.join(", ")),
        Kind::CipherSuites(names) => format!(" [values: {}]", names.join(", ")),
        Kind::BufferLimits | Kind::TlsVersions => format!(" [values: {}]", kind.expectation()),
        Kind::YesNo
        | Kind::Integer { .. }
        | Kind::Memory { .. }
        | Kind::MemoryOrPercent
        | Kind::Octal { .. }
        | Kind::Text
        | Kind::Path
        | Kind::Addresses
        | Kind::Share
        | Kind::Percentiles
        | Kind::SavePoints
        | Kind::EventClasses => String::new(),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(kind.placeholder())
        .value_parser(ValueParser::string())
        .allow_negative_numbers(true)
        .allow_hyphen_values(has_sign)
        .help_heading(setting.group.title())
        .hide(setting.is_fixed())
        .hide_short_help(!setting.shape.is_essential)
        .help(format!("{}{values} [default: {default}]", setting.doc()));
    match setting.shape.alias {
        Some(alias) => arg.alias(alias),
        None => arg,
    }
}
