//! TLS from files: the server's side for clients, and the client's side for an upstream.
//!
//! The settings are Redis's (`tls-cert-file` …), and so are their meanings. A configuration is
//! built whole or not at all, and never changed afterwards: to reload, build a new one and use it
//! for the connections from then on. Every error names the file and says what is wrong with it.
//!
//! The cryptography is ring's: it builds with a C compiler alone.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::stream::Stream;
pub use suites::Suites;

mod suites;

/// How clients are served over TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// `tls-cert-file`: the certificate, and behind it those that lead to its authority (PEM).
    pub cert_file: PathBuf,
    /// `tls-key-file`: its private key (PEM, without a passphrase).
    pub key_file: PathBuf,
    /// Who is trusted to vouch for clients.
    pub authorities: Authorities,
    /// `tls-auth-clients`
    pub auth_clients: AuthClients,
    /// `tls-protocols`
    pub protocols: Protocols,
    /// Which cipher suites are spoken.
    pub suites: Suites,
}

/// How an upstream is reached over TLS.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsSettings {
    /// Who is trusted to vouch for the upstream. Where none is named: whom the system trusts.
    pub authorities: Authorities,
    /// The certificate to show if asked, and its private key (both PEM).
    pub identity: Option<Identity>,
    /// Which versions to speak.
    pub protocols: Protocols,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, and behind it those that lead to its authority.
    pub cert_file: PathBuf,
    /// Its private key, without a passphrase.
    pub key_file: PathBuf,
}

/// Certificates of authorities: what the file and the directory hold together.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    /// `tls-ca-cert-file`
    pub file: Option<PathBuf>,
    /// `tls-ca-cert-dir`: every PEM file in it counts; they need not be named by their hash.
    pub directory: Option<PathBuf>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthClients {
    /// They must, and a trusted authority must have signed it.
    #[default]
    Yes,
    /// They need not, but one that is shown must be good.
    Optional,
    /// They are not asked for one.
    No,
}

impl std::str::FromStr for AuthClients {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        match text.to_ascii_lowercase().as_str() {
            "yes" => Ok(Self::Yes),
            "optional" => Ok(Self::Optional),
            "no" => Ok(Self::No),
            _ => Err(TlsError::UnknownAuthClients {
                found: text.to_owned(),
            }),
        }
    }
}

/// The versions of TLS to speak; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    tls12: bool,
    tls13: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
        }
    }
}

impl Protocols {
    fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        let tls12 = self.tls12.then_some(&version::TLS12);
        let tls13 = self.tls13.then_some(&version::TLS13);
        tls13.into_iter().chain(tls12).collect()
    }
}

/// Reads `tls-protocols`: names in any case with spaces between them. An empty text means all.
impl std::str::FromStr for Protocols {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        let mut protocols = Self {
            tls12: false,
            tls13: false,
        };
        for name in text.split_ascii_whitespace() {
            match name.to_ascii_lowercase().as_str() {
                "tlsv1.2" => protocols.tls12 = true,
                "tlsv1.3" => protocols.tls13 = true,
                _ => {
                    return Err(TlsError::UnknownProtocol {
                        found: name.to_owned(),
                    });
                }
            }
        }
        if protocols.tls12 || protocols.tls13 {
            Ok(protocols)
        } else {
            Ok(Self::default())
        }
    }
}

/// What the operator must change.
#[derive(Debug)]
pub enum TlsError {
    /// A file or directory cannot be read.
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file is not PEM.
    Pem {
        /// Which one.
        path: PathBuf,
        /// What is wrong in it.
        error: pem::Error,
    },
    /// A file, or all files of a directory, without a certificate.
    NoCertificate {
        /// Which one.
        path: PathBuf,
    },
    /// A file without a private key.
    NoKey {
        /// Which one.
        path: PathBuf,
    },
    /// A private key that needs a passphrase.
    EncryptedKey {
        /// Which one.
        path: PathBuf,
    },
    /// A certificate or key that cannot be used.
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: rustls::Error,
    },
    /// A private key that is not the certificate's.
    KeyMismatch {
        /// The certificate.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
    },
    /// Clients must show certificates, and nobody is trusted to vouch for them.
    NoClientAuthority,
    /// No authority is named for the upstream, and the system trusts none.
    NoSystemAuthority {
        /// What went wrong when asking the system, if anything did.
        why: Option<String>,
    },
    /// Authorities that rustls cannot build a verifier from.
    Verifier(rustls::client::VerifierBuilderError),
    /// A version of TLS that is not spoken here.
    UnknownProtocol {
        /// The name found.
        found: String,
    },
    /// Neither `yes`, `no` nor `optional`.
    UnknownAuthClients {
        /// The word found.
        found: String,
    },
    /// A name to expect of the upstream that is neither a host's nor an address.
    InvalidServerName {
        /// The name found.
        found: String,
    },
    /// Something else rustls refused.
    Config(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => write!(formatter, "{}: {error}", path.display()),
            Self::Pem { path, error } => {
                write!(formatter, "{}: not a PEM file: {error}", path.display())
            }
            Self::NoCertificate { path } => {
                write!(formatter, "{}: holds no certificate", path.display())
            }
            Self::NoKey { path } => write!(formatter, "{}: holds no private key", path.display()),
            Self::EncryptedKey { path } => write!(
                formatter,
                "{}: the private key needs a passphrase, which is not supported; \
                 store it without one and protect the file",
                path.display()
            ),
            Self::Unusable { path, error } => write!(formatter, "{}: {error}", path.display()),
            Self::KeyMismatch {
                cert_file,
                key_file,
            } => write!(
                formatter,
                "{}: not the private key of the certificate in {}",
                key_file.display(),
                cert_file.display()
            ),
            Self::NoClientAuthority => formatter.write_str(
                "tls-auth-clients needs tls-ca-cert-file or tls-ca-cert-dir, \
                 unless it is set to no",
            ),
            Self::NoSystemAuthority { why: None } => {
                formatter.write_str("the system trusts no certificate authority; name a CA file")
            }
            Self::NoSystemAuthority { why: Some(why) } => write!(
                formatter,
                "the system's certificate authorities cannot be read ({why}); name a CA file"
            ),
            Self::Verifier(error) => write!(formatter, "certificate authorities: {error}"),
            Self::UnknownProtocol { found } => write!(
                formatter,
                "'{found}' is not a TLS version spoken here: TLSv1.2 and TLSv1.3 are"
            ),
            Self::UnknownAuthClients { found } => write!(
                formatter,
                "tls-auth-clients is 'yes', 'no' or 'optional', not '{found}'"
            ),
            Self::InvalidServerName { found } => write!(
                formatter,
                "'{found}' is neither a host name nor an IP address"
            ),
            Self::Config(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// Reads the files and builds what new connections of clients are accepted with.
///
/// # Errors
/// When a file is missing or does not hold what it should, when key and certificate do not
/// belong together, or when clients must show certificates and no authority is named.
pub fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = settings.suites.provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&settings.protocols.versions())
        .map_err(TlsError::Config)?;
    let verifier = match settings.auth_clients {
        AuthClients::No => WebPkiClientVerifier::no_client_auth(),
        AuthClients::Yes | AuthClients::Optional => {
            let roots = roots(&settings.authorities)?.ok_or(TlsError::NoClientAuthority)?;
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let builder = match settings.auth_clients {
                AuthClients::Optional => builder.allow_unauthenticated(),
                AuthClients::Yes | AuthClients::No => builder,
            };
            builder.build().map_err(TlsError::Verifier)?
        }
    };
    let (certificates, key) = identity(&settings.cert_file, &settings.key_file)?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| unusable(error, &settings.cert_file, &settings.key_file))?;
    config.ignore_client_order = settings.suites.is_order_ours;
    Ok(Arc::new(config))
}

/// Reads the files and builds what connections to an upstream are made with.
///
/// # Errors
/// As [`server_config`]; also when no authority is named and the system trusts none.
pub fn client_config(settings: &ClientTlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let roots = match roots(&settings.authorities)? {
        Some(roots) => roots,
        None => system_roots()?,
    };
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Verifier)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&settings.protocols.versions())
        .map_err(TlsError::Config)?
        .with_webpki_verifier(verifier);
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (certificates, key) = identity(&files.cert_file, &files.key_file)?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| unusable(error, &files.cert_file, &files.key_file))?
        }
    };
    Ok(Arc::new(config))
}

/// The name an upstream's certificate must be for: a host name or an IP address.
///
/// # Errors
/// When it is neither.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::InvalidServerName {
        found: name.to_owned(),
    })
}

/// Shakes hands with a client that has just connected.
///
/// # Errors
/// When the client is not trusted, does not speak TLS, or takes longer than `patience`.
pub async fn accept(
    config: &Arc<ServerConfig>,
    tcp: TcpStream,
    patience: Duration,
) -> io::Result<Stream> {
    let handshake = TlsAcceptor::from(Arc::clone(config)).accept(tcp);
    match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the TLS handshake took too long",
        )),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Suites::default().provider()
}

fn identity(
    cert_file: &Path,
    key_file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let certificates = certificates(cert_file)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: cert_file.to_owned(),
        });
    }
    Ok((certificates, private_key(key_file)?))
}

/// Says which of the two files rustls refused.
fn unusable(error: rustls::Error, cert_file: &Path, key_file: &Path) -> TlsError {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return TlsError::KeyMismatch {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
        };
    }
    let path = if matches!(error, rustls::Error::InvalidCertificate(_)) {
        cert_file
    } else {
        key_file
    };
    TlsError::Unusable {
        path: path.to_owned(),
        error,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read {
        path: path.to_owned(),
        error,
    })
}

/// All certificates of a PEM file, in order. Other things in it are passed over.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem {
            path: path.to_owned(),
            error,
        })
}

/// The first private key of a PEM file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    let path = path.to_owned();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if is_encrypted(&bytes) {
            TlsError::EncryptedKey { path }
        } else if matches!(error, pem::Error::NoItemsFound) {
            TlsError::NoKey { path }
        } else {
            TlsError::Pem { path, error }
        }
    })
}

/// Whether a PEM file holds a key under a passphrase, in PKCS #8's form or the older one.
fn is_encrypted(pem: &[u8]) -> bool {
    [
        &b"BEGIN ENCRYPTED PRIVATE KEY"[..],
        b"Proc-Type: 4,ENCRYPTED",
    ]
    .iter()
    .any(|mark| memchr::memmem::find(pem, mark).is_some())
}

/// The authorities named, or `None` where none is.
fn roots(authorities: &Authorities) -> Result<Option<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &authorities.file {
        trust(&mut roots, path)?;
        if roots.is_empty() {
            return Err(TlsError::NoCertificate { path: path.clone() });
        }
    }
    if let Some(path) = &authorities.directory {
        let before = roots.len();
        for file in files_in(path)? {
            trust(&mut roots, &file)?;
        }
        if roots.len() == before {
            return Err(TlsError::NoCertificate { path: path.clone() });
        }
    }
    Ok((!roots.is_empty()).then_some(roots))
}

fn trust(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            error,
        })?;
    }
    Ok(())
}

/// The files of a directory, links followed, in the order of their names.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let unreadable = |error| TlsError::Read {
        path: directory.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whom the system trusts, less what this library cannot read: such stores hold oddities.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(TlsError::NoSystemAuthority { why });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
