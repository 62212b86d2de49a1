//! Settings: read from flags, environment and a TOML file into one checked [`Config`].
//!
//! A setting has one name everywhere: the flag `--maxmemory-policy`, the TOML key
//! `maxmemory-policy`, the variable `CORRAL_MAXMEMORY_POLICY`, and `CONFIG GET` and `CONFIG SET
//! maxmemory-policy`. Flags beat the environment, the environment beats the file. Each is declared
//! by one row in `rows.rs`, from which all of these, `--help` and docs/CONFIG.md are derived.
//!
//! Invariants: a [`Config`] is valid, alone and in combination, however it was made; a source that
//! cannot be understood stops the start, naming itself and what would be right; CONFIG SET changes
//! everything it names or nothing. Rules and origins have tables of the file to themselves:
//! `rules/`. This module reads files only at start and writes one only in [`Config::rewrite`]; it
//! knows no other module.

mod args;
mod choices;
mod docs;
mod error;
mod file;
mod kind;
mod machine;
mod rows;
pub mod rules;
mod runtime;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

pub use choices::{
    CipherSuite, CipherSuites, ClientIdentity, LogLevel, MaxmemoryPolicy, ProtectedCommand,
    TlsAuthClients, UpstreamTracking,
};
pub use docs::markdown;
pub use error::{ConfigError, RewriteError, SetError, Source};
pub use file::load_rules;
pub use kind::{Kind, Unit, ValueError};
pub use machine::memory_limit_of_machine;
pub use rows::{Config, FIXED, SETTINGS};
pub use rules::Rules;
pub use table::{Group, Setting, Shape, find, settings};
pub use types::{BindAddress, BufferLimit, Hertz, OutputBufferLimits, TlsVersions};

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To serve with these settings.
    Run(Box<Config>),
    /// To say whether a server could have these settings, which are valid each by itself.
    Check(Box<Config>),
    /// To print this help.
    Help(String),
    /// To print this version.
    Version(String),
}

impl Config {
    /// Reads the settings of a process: `args` is the command line, the program's name first, and
    /// `variables` its environment.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place it stands in and what would be right.
    pub fn from_command_line(
        args: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Invocation, ConfigError> {
        let line = match args::parse(args)? {
            args::Parsed::Line(line) => line,
            args::Parsed::Help(text) => return Ok(Invocation::Help(text)),
            args::Parsed::Version(text) => return Ok(Invocation::Version(text)),
        };
        let mut config = Self::default();
        if let Some(path) = &line.file {
            config.file = Some(file::load(path, &mut config)?);
        }
        args::apply_variables(variables, &mut config)?;
        line.apply(&mut config)?;
        if let Some(conflict) = config.conflict() {
            return Err(ConfigError::Conflict(conflict.why()));
        }
        let config = Box::new(config);
        Ok(if line.is_check {
            Invocation::Check(config)
        } else {
            Invocation::Run(config)
        })
    }

    /// The file these settings were read from, as an absolute path.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The rules and origins of that file, as they were at start.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The first rule between settings that is broken.
    fn conflict(&self) -> Option<Conflict> {
        let has_tls = self.tls_port != 0;
        let has_tcp = !self.bind.is_empty() && (self.port != 0 || has_tls);
        let has_authority = self.tls_ca_cert_file.is_some() || self.tls_ca_cert_dir.is_some();
        if has_tls && self.tls_cert_file.is_none() {
            Some(Conflict::Tls("tls-port needs tls-cert-file"))
        } else if has_tls && self.tls_key_file.is_none() {
            Some(Conflict::Tls("tls-port needs tls-key-file"))
        } else if has_tls && self.tls_auth_clients != TlsAuthClients::No && !has_authority {
            let why = "tls-auth-clients needs tls-ca-cert-file or tls-ca-cert-dir, or to be no";
            Some(Conflict::Tls(why))
        } else if self.upstream_tls_cert_file.is_some() != self.upstream_tls_key_file.is_some() {
            let why = "upstream-tls-cert-file and upstream-tls-key-file need each other";
            Some(Conflict::Upstream(why))
        } else if !has_tcp && self.unixsocket.is_none() {
            let why = "nothing to listen on: bind and port or tls-port, or unixsocket, must be set";
            Some(Conflict::NoListener(why))
        } else {
            None
        }
    }
}

/// Settings that do not go together, in words for the operator.
enum Conflict {
    Tls(&'static str),
    Upstream(&'static str),
    NoListener(&'static str),
}

impl Conflict {
    fn why(&self) -> &'static str {
        match self {
            Self::Tls(why) | Self::Upstream(why) | Self::NoListener(why) => why,
        }
    }
}

/// Every setting by name, passwords left out: it may go to a log.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for setting in SETTINGS {
            let value = setting.value(self);
            let is_shown = value.is_empty() || !setting.shape.is_sensitive;
            map.entry(
                &setting.name,
                &if is_shown {
                    value.as_str()
                } else {
                    "(redacted)"
                },
            );
        }
        map.finish()
    }
}
