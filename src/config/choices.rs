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

/// Suites in the order of preference; none stands for every suite there is.
impl Value for Vec<CipherSuite> {
    fn assign(&mut self, text: &str, kind: Kind) -> Result<(), ValueError> {
        let Kind::CipherSuites(names) = kind else {
            return Err(TLS_REFUSED.into());
        };
        let mut suites = Self::new();
        for word in text.split(':').filter(|word| !word.is_empty()) {
            let name = find_word(word, names).map_err(|_| TLS_REFUSED)?;
            suites.extend(CipherSuite::from_name(name));
        }
        *self = suites;
        Ok(())
    }

    fn print(&self, _: Kind) -> String {
        self.iter()
            .map(|suite| suite.name())
            .collect::<Vec<_>>()
            .join(":")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_keep_their_order_and_belong_to_one_tls_version() {
        let kind = Kind::CipherSuites(CipherSuite::TLS13_NAMES);
        let set = |text: &str| {
            let mut suites = Vec::<CipherSuite>::new();
            suites.assign(text, kind).map(|()| suites.print(kind))
        };
        let text = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
        assert_eq!(set(text), Ok(text.to_owned()));
        assert_eq!(set("ECDHE-RSA-AES128-GCM-SHA256"), Err(TLS_REFUSED.into()));
        assert!(
            CipherSuite::TLS13_NAMES
                .iter()
                .all(|name| name.starts_with("TLS_"))
        );
        assert!(
            CipherSuite::TLS12_NAMES
                .iter()
                .all(|name| name.starts_with("ECDHE-"))
        );
    }
}
