//! Which keys are cached: `near-keys` and `near-keys-except`.
//!
//! Where all are, which is the default, that costs a look at a flag.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::command::glob::{self, Case};
use crate::config::Config;

/// The keys of which copies are kept.
#[derive(Default)]
pub(super) struct Selection {
    is_partial: AtomicBool,
    patterns: RwLock<Patterns>,
}

struct Patterns {
    /// As the settings have them.
    texts: (String, String),
    only: Vec<Vec<u8>>,
    except: Vec<Vec<u8>>,
}

/// All keys.
impl Default for Patterns {
    fn default() -> Self {
        Self {
            texts: ("*".to_owned(), String::new()),
            only: vec![b"*".to_vec()],
            except: Vec::new(),
        }
    }
}

impl Selection {
    /// Takes up what the settings say. True if that is something else than before.
    pub(super) fn follow(&self, config: &Config) -> bool {
        let is_same = {
            let present = self.patterns.read();
            present.texts.0 == config.near_keys && present.texts.1 == config.near_keys_except
        };
        if is_same {
            return false;
        }
        let globs = |text: &str| -> Vec<Vec<u8>> {
            let words = text.split_ascii_whitespace();
            words.map(|word| word.as_bytes().to_vec()).collect()
        };
        let mut patterns = self.patterns.write();
        patterns.texts = (config.near_keys.clone(), config.near_keys_except.clone());
        patterns.only = globs(&config.near_keys);
        patterns.except = globs(&config.near_keys_except);
        let has_all = patterns.only.iter().any(|glob| glob == b"*");
        let is_partial = !has_all || !patterns.except.is_empty();
        self.is_partial.store(is_partial, Ordering::Release);
        true
    }

    /// Whether copies of this key are kept.
    #[inline]
    pub(super) fn has(&self, key: &[u8]) -> bool {
        !self.is_partial.load(Ordering::Acquire) || self.patterns.read().admit(key)
    }
}

impl Patterns {
    fn admit(&self, key: &[u8]) -> bool {
        let is_one_of = |globs: &[Vec<u8>]| {
            let mut globs = globs.iter();
            globs.any(|glob| glob::matches(glob, key, Case::Sensitive))
        };
        is_one_of(&self.only) && !is_one_of(&self.except)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(only: &[u8], except: &[u8], key: &[u8]) -> bool {
        let pairs: &[(&[u8], &[u8])] = &[(b"near-keys", only), (b"near-keys-except", except)];
        let selection = Selection::default();
        selection.follow(&Config::default().set(pairs).unwrap());
        selection.has(key)
    }

    #[test]
    fn a_key_is_cached_that_one_glob_names_and_none_excepts() {
        for (only, except, key, is_cached) in [
            ("*", "", "user:1", true),
            ("user:* page:*", "", "page:1", true),
            ("user:* page:*", "", "order:1", false),
            ("*", "*:lock tmp:*", "user:1:lock", false),
            ("*", "*:lock tmp:*", "user:1", true),
            ("user:*", "user:1?", "user:12", false),
            ("USER:*", "", "user:1", false),
            ("", "", "user:1", false),
        ] {
            assert_eq!(
                selected(only.as_bytes(), except.as_bytes(), key.as_bytes()),
                is_cached,
                "{only} but {except}: {key}"
            );
        }
    }

    #[test]
    fn a_change_of_the_settings_is_taken_up() {
        let selection = Selection::default();
        selection.follow(&Config::default());
        assert!(selection.has(b"k"));
        selection.follow(
            &Config::default()
                .set(&[(b"near-keys-except", b"k*")])
                .unwrap(),
        );
        assert!(!selection.has(b"k") && selection.has(b"l"));
        selection.follow(&Config::default());
        assert!(selection.has(b"k"));
    }
}
