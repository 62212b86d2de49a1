//! The settings as an operator and a client of CONFIG see them: the table here, the rest beside it.

mod rewrite;
mod runtime;
mod start;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A TOML file in a directory of its own, both removed when dropped.
struct TomlFile(PathBuf);

impl TomlFile {
    fn with(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(format!("corral-config-{process}-{next}"));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("corral.toml");
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }

    /// Starts with this file.
    fn start(&self, flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let path = self.0.to_str().unwrap();
        start(&[&["--config", path], flags].concat(), variables)
    }

    /// The error of starting with this file, the path taken out.
    fn refusal(&self) -> String {
        let directory = format!("{}/", self.0.parent().unwrap().display());
        self.start(&[], &[]).unwrap_err().replace(&directory, "")
    }
}

impl Drop for TomlFile {
    fn drop(&mut self) {
        fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

fn invoke(flags: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    let args = ["corral"].iter().chain(flags).map(OsString::from);
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    Config::from_command_line(args, variables)
}

fn start(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
    let invocation = invoke(flags, variables).map_err(|error| error.to_string())?;
    if let Invocation::Run(config) = invocation {
        Ok(*config)
    } else {
        Err(format!("does not run: {invocation:?}"))
    }
}

fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<Config, String> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    config.set(&pairs).map_err(|error| error.to_string())
}

/// A value the setting takes that is not its default.
fn unusual(setting: &Setting) -> &'static str {
    let texts = [
        "yes",
        "no",
        "7",
        "77",
        "0.25",
        "8gb",
        "TLSv1.3",
        "debug",
        "noeviction",
        "/a\"b",
        "normal 1 2 3",
        "broadcast",
        "front",
    ];
    let names = ["TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"];
    let defaults = Config::default();
    let mut all = texts.into_iter().chain(names);
    all.find(|text| {
        let mut config = defaults.clone();
        setting.assign(&mut config, text).is_ok() && config != defaults
    })
    .unwrap()
}

/// CONFIG GET with a glob that knows a trailing star only.
fn get(config: &Config, patterns: &[&str]) -> Vec<(String, String)> {
    let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
    config.get(&patterns, |pattern, name| {
        let start = pattern.strip_suffix(b"*").unwrap();
        name.get(..start.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(start))
    })
}

fn value(config: &Config, name: &str) -> String {
    find(name).unwrap().0.value(config)
}

#[test]
fn every_name_and_alias_is_there_once_and_in_lower_case() {
    let names: Vec<_> = settings()
        .flat_map(|setting| [Some(setting.name), setting.shape.alias])
        .flatten()
        .collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    for name in names {
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{name}"
        );
    }
}

#[test]
fn every_default_is_a_value_its_setting_takes_and_prints_back() {
    let config = Config::default();
    for setting in settings() {
        let text = setting.value(&config);
        let mut next = config.clone();
        setting
            .assign(&mut next, &text)
            .unwrap_or_else(|error| panic!("{}: {error}", setting.name));
        assert_eq!(next, config, "{}", setting.name);
        assert!(setting.doc().ends_with('.'), "{}", setting.name);
    }
}

#[test]
fn every_number_is_taken_at_its_bounds_and_refused_one_past_them() {
    let config = Config::default();
    for setting in SETTINGS.iter().filter(|setting| setting.name != "hz") {
        let (min, max) = if let Kind::Integer { min, max, .. } = setting.shape.kind {
            (i128::from(min), i128::from(max))
        } else if let Kind::Memory { min, max } = setting.shape.kind {
            (i128::from(min), i128::from(max))
        } else {
            continue;
        };
        for bound in [min, max].map(|bound| bound.to_string()) {
            let mut next = config.clone();
            setting.assign(&mut next, &bound).unwrap();
            assert_eq!(setting.value(&next), bound, "{}", setting.name);
        }
        for outside in [min - 1, max + 1].map(|number| number.to_string()) {
            // Past 64 bits Redis saturates memory, which leaves maxmemory at its bound.
            if setting.name == "maxmemory" && !outside.starts_with('-') {
                continue;
            }
            let mut next = config.clone();
            assert!(
                setting.assign(&mut next, &outside).is_err(),
                "{} {outside}",
                setting.name
            );
            assert_eq!(next, config);
        }
    }
}

#[test]
fn every_choice_is_taken_in_any_case() {
    for setting in SETTINGS {
        let Kind::Choice(words) = setting.shape.kind else {
            continue;
        };
        for word in words {
            let mut config = Config::default();
            setting.assign(&mut config, &word.to_uppercase()).unwrap();
            assert_eq!(setting.value(&config), *word);
        }
    }
}
