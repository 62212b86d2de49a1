//! The settings that are one word of a list.

use std::fmt;

use super::kind::{Kind, ValueError};
use super::types::TLS_REFUSED;
use super::value::{Value, find_word};

/// Declares an enum whose values are words, with the words in the order in which errors list them.
macro_rules! choices {
    ($(
        $(#[$about:meta])*
        $choice:ident { $( $(#[$what:meta])* $variant:ident = $word:literal, )+ }
    )+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $choice { $( $(#[$what])* $variant, )+ }

        impl $choice {
            /// Every word, in the order in which error texts list them.
            pub const NAMES: &'static [&'static str] = &[$($word),+];

            /// The word that stands for this value.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $( $word => Some(Self::$variant), )+ _ => None }
            }
        }

        impl fmt::Display for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Value for $choice {
            fn assign(&mut self, text: &str, _: Kind) -> Result<(), ValueError> {
                let word = find_word(text, Self::NAMES)?;
                let known = Self::from_name(word);
                *self = known.expect("NAMES and from_name have the same words");
                Ok(())
            }

            fn print(&self, _: Kind) -> String {
                self.name().to_owned()
            }
        }
    )+};
}

choices! {
    /// How an upstream tells what changes.
    UpstreamTracking {
        /// By the best way it knows.
        Auto = "auto",
        /// Every key that changes.
        Broadcast = "broadcast",
        /// Not at all.
        None = "none",
    }

    /// As whom a client of a front reads.
    ClientIdentity {
        /// As itself.
        Own = "own",
        /// As the front.
        Front = "front",
    }

    /// Which key leaves when memory is full.
    MaxmemoryPolicy {
        /// Least recently used, of the keys with an expiry.
        VolatileLru = "volatile-lru",
        /// Least frequently used, of the keys with an expiry.
        VolatileLfu = "volatile-lfu",
        /// Any of the keys with an expiry.
        VolatileRandom = "volatile-random",
        /// The nearest to its expiry.
        VolatileTtl = "volatile-ttl",
        /// Least recently used.
        AllkeysLru = "allkeys-lru",
        /// Least frequently used.
        AllkeysLfu = "allkeys-lfu",
        /// Any.
        AllkeysRandom = "allkeys-random",
        /// None: commands that need memory are refused.
        NoEviction = "noeviction",
        /// A window for new keys, and a main area that only more useful keys enter.
        AllkeysTinylfu = "allkeys-tinylfu",
    }

    /// How much is logged.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// What happens often and is of use.
        Verbose = "verbose",
        /// What an operator wants to see.
        Notice = "notice",
        /// What an operator must see.
        Warning = "warning",
    }

    /// Whether clients must show a certificate.
    TlsAuthClients {
        /// None is asked for.
        No = "no",
        /// A valid one is required.
        Yes = "yes",
        /// None is required; one that is shown must be valid.
        Optional = "optional",
    }

    /// Who may use commands that can harm the server.
    ProtectedCommand {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Clients of this machine.
        Local = "local",
    }

    /// A TLS cipher suite, by OpenSSL's name.
    CipherSuite {
        /// TLS 1.3.
        Tls13Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3.
        Tls13Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3.
        Tls13Chacha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2.
        EcdheEcdsaAes256GcmSha384 = "ECDHE-ECDSA-AES256-GCM-SHA384",
        /// TLS 1.2.
        EcdheEcdsaAes128GcmSha256 = "ECDHE-ECDSA-AES128-GCM-SHA256",
        /// TLS 1.2.
        EcdheEcdsaChacha20Poly1305 = "ECDHE-ECDSA-CHACHA20-POLY1305",
        /// TLS 1.2.
        EcdheRsaAes256GcmSha384 = "ECDHE-RSA-AES256-GCM-SHA384",
        /// TLS 1.2.
        EcdheRsaAes128GcmSha256 = "ECDHE-RSA-AES128-GCM-SHA256",
        /// TLS 1.2.
        EcdheRsaChacha20Poly1305 = "ECDHE-RSA-CHACHA20-POLY1305",
    }
}

/// How many of [`CipherSuite::NAMES`] are TLS 1.3's; the others are TLS 1.2's.
const TLS13_SUITES: usize = 3;

impl CipherSuite {
    /// The names of the suites of TLS 1.3, best first.
    pub const TLS13_NAMES: &'static [&'static str] = Self::NAMES.split_at(TLS13_SUITES).0;
    /// The names of the suites of TLS 1.2, best first.
    pub const TLS12_NAMES: &'static [&'static str] = Self::NAMES.split_at(TLS13_SUITES).1;
}

/// A list of cipher suites in the order of preference; no name in it stands for every suite there
/// is. Names that no suite here has are kept apart: the list works without them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CipherSuites {
    text: String,
    known: Vec<CipherSuite>,
    unknown: Vec<String>,
}

impl CipherSuites {
    /// The suites that are there.
    #[must_use]
    pub fn known(&self) -> &[CipherSuite] {
        &self.known
    }

    /// The names that no suite has, as they were written.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl Value for CipherSuites {
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
        let Kind::CipherSuites(names) = kind else {
            return Err(TLS_REFUSED.into());
        };
        let mut suites = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        for word in text.split(':').filter(|word| !word.is_empty()) {
            if is_openssl_rule(word) {
                return Err(format!(
                    "OpenSSL's keywords and operators, such as '{word}', are not supported: \
                     name the suites, or none for all of them"
                )
                .into());
            }
            match find_word(word, names) {
                Ok(name) => suites.known.extend(CipherSuite::from_name(name)),
                Err(_) => suites.unknown.push(word.to_owned()),
            }
        }
        if suites.known.is_empty() && !suites.unknown.is_empty() {
            let text = format!("none of these suites is there, but {}", names.join(", "));
            return Err(text.into());
        }
        *self = suites;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.text.clone()
    }
}

/// Whether a word of OpenSSL's cipher language is no suite's name but changes the list (`HIGH`,
/// `!aNULL`, `ECDHE+AESGCM`, `@SECLEVEL=2`). To leave one out would mean something else than was
/// asked for. Names of suites have a `-` or a `_` within, keywords have none.
fn is_openssl_rule(word: &str) -> bool {
    word.starts_with(['!', '-', '+', '@']) || word.contains('+') || !word.contains(['-', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, names: &'static [&'static str]) -> Result<CipherSuites, String> {
        let mut suites = CipherSuites::default();
        let assigned = suites.assign(text, Kind::CipherSuites(names));
        assigned.map(|()| suites).map_err(|error| error.to_string())
    }

    #[test]
    fn suites_keep_their_order_and_belong_to_one_tls_version() {
        let text = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
        let suites = set(text, CipherSuite::TLS13_NAMES).unwrap();
        let names: Vec<_> = suites.known().iter().map(|suite| suite.name()).collect();
        assert_eq!(names.join(":"), text);
        assert!(set("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS13_NAMES).is_err());
        let are_all = |names: &[&str], start| names.iter().all(|name| name.starts_with(start));
        assert!(are_all(CipherSuite::TLS13_NAMES, "TLS_"));
        assert!(are_all(CipherSuite::TLS12_NAMES, "ECDHE-"));
    }

    #[test]
    fn names_of_suites_that_are_not_there_are_kept_apart_while_one_remains() {
        let text = "AES128-SHA:ecdhe-rsa-aes128-gcm-sha256:DHE-RSA-AES256-SHA";
        let suites = set(text, CipherSuite::TLS12_NAMES).unwrap();
        assert_eq!(suites.known(), [CipherSuite::EcdheRsaAes128GcmSha256]);
        assert_eq!(suites.unknown(), ["AES128-SHA", "DHE-RSA-AES256-SHA"]);
        assert_eq!(suites.print(Kind::Text), text);
        let error = set("AES128-SHA", CipherSuite::TLS12_NAMES).unwrap_err();
        assert!(
            error.starts_with("none of these suites is there, but ECDHE-ECDSA-AES256-"),
            "{error}"
        );
        assert_eq!(
            set("", CipherSuite::TLS12_NAMES),
            Ok(CipherSuites::default())
        );
    }

    #[test]
    fn keywords_of_openssl_are_refused_rather_than_left_out() {
        let good = "ECDHE-RSA-AES128-GCM-SHA256";
        for rule in [
            "DEFAULT",
            "HIGH",
            "!aNULL",
            "-AES128-SHA",
            "+AES",
            "@SECLEVEL=2",
            "ECDHE+AESGCM",
        ] {
            let error = set(&format!("{good}:{rule}"), CipherSuite::TLS12_NAMES).unwrap_err();
            let start = format!("OpenSSL's keywords and operators, such as '{rule}', are not");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
