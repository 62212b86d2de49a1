//! CONFIG GET and CONFIG SET.

use super::table::{find, settings};
use super::types::TLS_REFUSED;
use super::{Config, Conflict, SetError};

impl Config {
    /// The settings that any of the patterns names, with their values, as CONFIG GET replies them.
    ///
    /// A pattern without `*`, `?` or `[` is a name, and is replied as it was written; the others
    /// are given to `matches(pattern, name)`, whose glob must ignore case. Aliases are names of
    /// their own. Nothing is listed twice.
    #[must_use]
    pub fn get(
        &self,
        patterns: &[&[u8]],
        matches: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| {
            if !found
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                found.push((name.to_owned(), value));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                let name = str::from_utf8(pattern).unwrap_or_default();
                if let Some((setting, _)) = find(name) {
                    add(name, setting.value(self));
                }
                continue;
            }
            for setting in settings() {
                for name in [Some(setting.name), setting.shape.alias]
                    .into_iter()
                    .flatten()
                {
                    if matches(pattern, name.as_bytes()) {
                        add(name, setting.value(self));
                    }
                }
            }
        }
        found
    }

    /// These settings with every pair of name and value set, as CONFIG SET asks.
    ///
    /// The caller puts into effect what differs, and may refuse with [`SetError::failed`].
    ///
    /// # Errors
    /// The first name or value that cannot be; then nothing is changed.
    pub fn set(&self, pairs: &[(&[u8], &[u8])]) -> Result<Self, SetError> {
        // First every name, then every value: the order decides which error is replied.
        let mut changes = Vec::with_capacity(pairs.len());
        for &(name, value) in pairs {
            let given = String::from_utf8_lossy(name);
            let Some((setting, known)) = find(&given) else {
                return Err(SetError::Unknown(given.into_owned()));
            };
            if !setting.shape.is_mutable {
                return Err(SetError::failed(given, "can't set immutable config"));
            }
            if changes.iter().any(|&(_, other, _)| other == known) {
                return Err(SetError::failed(given, "duplicate parameter"));
            }
            changes.push((setting, known, value));
        }
        let mut next = self.clone();
        for &(setting, known, value) in &changes {
            let text = str::from_utf8(value)
                .map_err(|_| SetError::failed(known, "argument must be valid UTF-8"))?;
            setting
                .assign(&mut next, text)
                .map_err(|error| SetError::failed(known, error.to_string()))?;
        }
        match next.conflict() {
            Some(Conflict::Tls(_)) => {
                let mut names = changes.iter().map(|&(_, known, _)| known);
                let name = names
                    .find(|name| name.starts_with("tls-"))
                    .unwrap_or("tls-port");
                Err(SetError::failed(name, TLS_REFUSED))
            }
            // Redis too lets a client close the last port.
            Some(Conflict::Upstream(_) | Conflict::NoListener(_)) | None => Ok(next),
        }
    }
}
