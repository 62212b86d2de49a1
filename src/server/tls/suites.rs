//! Cipher suites: OpenSSL's names, by which the settings call them, to rustls's suites.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};

use crate::config::CipherSuite;

/// Which cipher suites are spoken, the preferred first. A list without any stands for all suites of
/// its version.
#[derive(Clone, Debug, Default)]
pub struct Suites {
    /// `tls-ciphers`: those of TLS 1.2.
    pub tls12: Vec<CipherSuite>,
    /// `tls-ciphersuites`: those of TLS 1.3.
    pub tls13: Vec<CipherSuite>,
    /// `tls-prefer-server-ciphers`: whether this order counts, not the client's.
    pub is_order_ours: bool,
}

impl Suites {
    /// The cryptography, with these suites only.
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let all = ring::default_provider();
        let chosen = |names: &[CipherSuite], is_tls13: bool| -> Vec<SupportedCipherSuite> {
            if names.is_empty() {
                let suites = all.cipher_suites.iter().copied();
                suites
                    .filter(|suite| suite.tls13().is_some() == is_tls13)
                    .collect()
            } else {
                names.iter().map(|&name| suite(name)).collect()
            }
        };
        let cipher_suites = [chosen(&self.tls13, true), chosen(&self.tls12, false)].concat();
        Arc::new(CryptoProvider {
            cipher_suites,
            ..all
        })
    }
}

fn suite(name: CipherSuite) -> SupportedCipherSuite {
    match name {
        CipherSuite::Tls13Aes256GcmSha384 => cipher_suite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::Tls13Aes128GcmSha256 => cipher_suite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::Tls13Chacha20Poly1305Sha256 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheEcdsaAes256GcmSha384 => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        }
        CipherSuite::EcdheEcdsaAes128GcmSha256 => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
        CipherSuite::EcdheEcdsaChacha20Poly1305 => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        CipherSuite::EcdheRsaAes256GcmSha384 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaAes128GcmSha256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaChacha20Poly1305 => {
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_a_name_and_no_names_are_all_suites() {
        let every = Suites::default().provider().cipher_suites.clone();
        assert_eq!(every, ring::default_provider().cipher_suites);
        assert_eq!(every.len(), CipherSuite::NAMES.len());
        let named = Suites {
            tls12: vec![CipherSuite::EcdheRsaAes128GcmSha256],
            ..Suites::default()
        };
        let named = &named.provider().cipher_suites;
        assert_eq!(named.len(), CipherSuite::TLS13_NAMES.len() + 1);
        assert!(named.contains(&cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
    }
}
