//! Error replies by their code (`ERR`, `WRONGTYPE`, `OOM` …).

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How many error replies there were of each code.
#[derive(Debug, Default)]
pub struct Errors(Mutex<BTreeMap<String, u64>>);

impl Errors {
    /// Counts an error reply by the first word of its text.
    pub fn count(&self, text: &[u8]) {
        let code = text.split(|&byte| byte == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(&code[..code.len().min(CODE_BYTES_MAX)]);
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(code.as_ref()) {
            *count += 1;
        } else if counts.len() < CODES_MAX {
            counts.insert(code.into_owned(), 1);
        }
    }

    /// All counts, by code.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }
}

/// Codes that are told apart.
const CODES_MAX: usize = 128;
const CODE_BYTES_MAX: usize = 32;
