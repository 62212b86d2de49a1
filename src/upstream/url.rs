//! Where an upstream is, and as whom to speak to it: one URL.
//!
//! `redis://[[user]:password@]host[:port][/db]`, `rediss://…` for TLS, and for a Unix socket
//! `unix:/path[?db=N]`, `unix://…` or `redis+unix://…`. `?db=N` is understood everywhere. What
//! would end a part of the URL (`@ : / ? # %`) is written percent-encoded in a name or password.
//!
//! A master that Sentinels know: `redis+sentinel://[[user]:password@]host[:port],…/name[/db]`,
//! `rediss+sentinel://…` for TLS with it and with them. As whom to speak to the Sentinels
//! themselves is said by `?sentinel_user=` and `?sentinel_password=`.
//!
//! A cluster, of which some nodes are named: `redis+cluster://…host[:port],…[/0]`, and with
//! TLS `rediss+cluster://…`.
//!
//! Neither `Display` nor `Debug` ever shows the password, and no error quotes the URL.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

mod hosts;

pub use hosts::{HOSTS_MAX, SENTINEL_PORT};

/// The port of `redis://` and `rediss://` where none is given.
pub const DEFAULT_PORT: u16 = 6379;

/// An upstream's place, and what a connection to it says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// Where it is.
    pub servers: Servers,
    /// Whether to speak TLS; never so over a Unix socket.
    pub tls: bool,
    /// What to send `AUTH` with, if anything.
    pub credentials: Option<Credentials>,
    /// The database to `SELECT`; 0 needs none.
    pub database: u32,
}

/// Which servers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// This one.
    One(Endpoint),
    /// The master that Sentinels name.
    Sentinel(Sentinels),
    /// The cluster that these nodes are of.
    Cluster(Vec<Endpoint>),
}

/// Who knows where a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentinels {
    /// Where they listen.
    pub addresses: Vec<Endpoint>,
    /// The name by which they know it.
    pub master: String,
    /// What to send them `AUTH` with, if anything.
    pub credentials: Option<Credentials>,
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or an IP address (an IPv6 one without brackets), and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// What to send `AUTH` with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user, or `None` for the default one.
    pub user: Option<Vec<u8>>,
    /// The password.
    pub password: Vec<u8>,
}

/// Hides the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().map(<[u8]>::escape_ascii);
        write!(formatter, "Credentials({}:***)", Shown(user))
    }
}

/// Prints what is there.
struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |shown| shown.fmt(formatter))
    }
}

/// `127.0.0.1:6379`, `[::1]:6379` or `/path`: as it is named in error replies and logs.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// The URL, with `***` for the password.
impl fmt::Display for UpstreamUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match (&self.servers, self.tls) {
            (Servers::One(Endpoint::Unix(_)), _) => "unix://",
            (Servers::One(Endpoint::Tcp { .. }), true) => "rediss://",
            (Servers::One(Endpoint::Tcp { .. }), false) => "redis://",
            (Servers::Sentinel(_), true) => "rediss+sentinel://",
            (Servers::Sentinel(_), false) => "redis+sentinel://",
            (Servers::Cluster(_), true) => "rediss+cluster://",
            (Servers::Cluster(_), false) => "redis+cluster://",
        })?;
        if let Some(credentials) = &self.credentials {
            let user = credentials.user.as_deref().map(<[u8]>::escape_ascii);
            write!(formatter, "{}:***@", Shown(user))?;
        }
        match &self.servers {
            Servers::One(endpoint) => endpoint.fmt(formatter)?,
            Servers::Sentinel(sentinels) => {
                write_hosts(formatter, &sentinels.addresses)?;
                write!(formatter, "/{}", sentinels.master)?;
            }
            Servers::Cluster(nodes) => write_hosts(formatter, nodes)?,
        }
        match (&self.servers, self.database) {
            (_, 0) => Ok(()),
            (Servers::One(Endpoint::Unix(_)), database) => write!(formatter, "?db={database}"),
            (Servers::One(_) | Servers::Sentinel(_) | Servers::Cluster(_), database) => {
                write!(formatter, "/{database}")
            }
        }
    }
}

fn write_hosts(formatter: &mut fmt::Formatter<'_>, hosts: &[Endpoint]) -> fmt::Result {
    for (at, host) in hosts.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(formatter, "{comma}{host}")?;
    }
    Ok(())
}

/// Why a text is no URL of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It does not begin with a scheme.
    NoScheme,
    /// A scheme that means nothing here.
    UnknownScheme {
        /// The scheme found.
        found: String,
    },
    /// A cluster has one database.
    ClusterDatabase,
    /// The parts do not fit together.
    Malformed(url::ParseError),
    /// No host where one is needed.
    NoHost,
    /// A host in front of a Unix socket's path.
    UnixHost,
    /// No path of a Unix socket.
    NoPath,
    /// Something that is no host.
    InvalidHost,
    /// Something that is no port.
    InvalidPort,
    /// More than [`HOSTS_MAX`] hosts.
    TooManyHosts,
    /// No name of a master.
    NoMasterName,
    /// Credentials without a password.
    NoPassword,
    /// The same for the Sentinels.
    NoSentinelPassword,
    /// A database that is no number.
    InvalidDatabase {
        /// The text found.
        found: String,
    },
    /// A database in the path, and another one as `?db=`.
    TwoDatabases,
    /// A parameter that means nothing here.
    UnknownParameter {
        /// Its name.
        name: String,
        /// What is one; continues "only …".
        known: &'static str,
    },
    /// A `#`, which must be written `%23`.
    Fragment,
}

impl fmt::Display for UrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => {
                formatter.write_str("an upstream is written redis://host:port, or unix:/path")
            }
            Self::UnknownScheme { found } => write!(
                formatter,
                "'{found}' is not redis, unix, redis+sentinel or redis+cluster, \
                 or one of these with rediss: \
                 an upstream is written redis://host:port, or unix:/path"
            ),
            Self::ClusterDatabase => formatter.write_str("a cluster has database 0 only"),
            Self::Malformed(error) => write!(
                formatter,
                "{error} (what is special in a user or password must be percent-encoded)"
            ),
            Self::NoHost => formatter.write_str("the host is missing"),
            Self::InvalidHost => {
                formatter.write_str("a host is a name, an IPv4 address or [an IPv6 one]")
            }
            Self::InvalidPort => formatter.write_str("a port is a number up to 65535"),
            Self::TooManyHosts => write!(formatter, "there are more than {HOSTS_MAX} hosts"),
            Self::NoMasterName => formatter.write_str(
                "the name of the master is missing: redis+sentinel://host:port,host:port/name",
            ),
            Self::UnixHost => formatter
                .write_str("the path of a Unix socket begins with '/': unix:/path or unix:///path"),
            Self::NoPath => formatter.write_str("the path of the Unix socket is missing"),
            Self::NoPassword => formatter
                .write_str("there is a user but no password: write user:password@, or :password@"),
            Self::NoSentinelPassword => {
                formatter.write_str("there is a sentinel_user but no sentinel_password")
            }
            Self::InvalidDatabase { found } => {
                write!(formatter, "the database '{found}' is not a number")
            }
            Self::TwoDatabases => formatter.write_str("two different databases are given"),
            Self::UnknownParameter { name, known } => {
                write!(formatter, "'{name}' is not a parameter: only {known}")
            }
            Self::Fragment => formatter.write_str("a '#' must be written %23"),
        }
    }
}

impl std::error::Error for UrlError {}

impl FromStr for UpstreamUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if let Some((scheme, rest)) = text.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                "redis+sentinel" => return hosts::sentinel(rest, false),
                "rediss+sentinel" => return hosts::sentinel(rest, true),
                "redis+cluster" => return hosts::cluster(rest, false),
                "rediss+cluster" => return hosts::cluster(rest, true),
                _ => {}
            }
        }
        let url = Url::parse(&with_host(text)).map_err(malformed)?;
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let (endpoint, tls, in_path) = match url.scheme() {
            "redis" => (tcp(&url)?, false, database_in_path(&url)?),
            "rediss" => (tcp(&url)?, true, database_in_path(&url)?),
            "unix" | "redis+unix" => (unix(&url)?, false, None),
            found => {
                return Err(UrlError::UnknownScheme {
                    found: found.to_owned(),
                });
            }
        };
        let in_query = database_in_query(&url)?;
        if in_path.is_some() && in_query.is_some() && in_path != in_query {
            return Err(UrlError::TwoDatabases);
        }
        Ok(Self {
            servers: Servers::One(endpoint),
            tls,
            credentials: credentials(&url)?,
            database: in_path.or(in_query).unwrap_or(0),
        })
    }
}

fn malformed(error: url::ParseError) -> UrlError {
    if error == url::ParseError::RelativeUrlWithoutBase {
        UrlError::NoScheme
    } else if error == url::ParseError::EmptyHost {
        UrlError::NoHost
    } else {
        UrlError::Malformed(error)
    }
}

/// `unix://:password@/path` has no host, which the URL standard does not allow beside a password.
fn with_host(text: &str) -> String {
    if let Some((scheme, rest)) = text.split_once("://")
        && matches!(scheme, "unix" | "redis+unix")
        && let Some((authority, path)) = rest.split_once('/')
        && authority.ends_with('@')
    {
        return format!("{scheme}://{authority}localhost/{path}");
    }
    text.to_owned()
}

fn tcp(url: &Url) -> Result<Endpoint, UrlError> {
    let host = match url.host().ok_or(UrlError::NoHost)? {
        Host::Domain(name) => decoded_text(name),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let port = url.port().unwrap_or(DEFAULT_PORT);
    Ok(Endpoint::Tcp { host, port })
}

fn unix(url: &Url) -> Result<Endpoint, UrlError> {
    match url.host_str() {
        None | Some("" | "localhost") => {}
        Some(_) => return Err(UrlError::UnixHost),
    }
    let path: Vec<u8> = percent_decode_str(url.path()).collect();
    match path.first() {
        None => Err(UrlError::NoPath),
        Some(b'/') if path.len() == 1 => Err(UrlError::NoPath),
        Some(b'/') => Ok(Endpoint::Unix(OsString::from_vec(path).into())),
        Some(_) => Err(UrlError::UnixHost),
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, UrlError> {
    let user = url.username();
    let Some(password) = url.password() else {
        return if user.is_empty() {
            Ok(None)
        } else {
            Err(UrlError::NoPassword)
        };
    };
    Ok(Some(Credentials {
        user: (!user.is_empty()).then(|| percent_decode_str(user).collect()),
        password: percent_decode_str(password).collect(),
    }))
}

fn database_in_path(url: &Url) -> Result<Option<u32>, UrlError> {
    match url.path().trim_matches('/') {
        "" => Ok(None),
        digits => database(digits).map(Some),
    }
}

fn database_in_query(url: &Url) -> Result<Option<u32>, UrlError> {
    let mut found = None;
    for (name, value) in url.query_pairs() {
        if name != "db" {
            return Err(UrlError::UnknownParameter {
                name: name.into_owned(),
                known: "db is",
            });
        }
        let value = database(&value)?;
        if found.is_some_and(|before| before != value) {
            return Err(UrlError::TwoDatabases);
        }
        found = Some(value);
    }
    Ok(found)
}

fn database(digits: &str) -> Result<u32, UrlError> {
    // A sign would pass `parse`.
    if digits.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(database) = digits.parse()
    {
        return Ok(database);
    }
    Err(UrlError::InvalidDatabase {
        found: digits.to_owned(),
    })
}

fn decoded_text(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> UpstreamUrl {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_is_understood_and_printed_in_its_own() {
        for (text, printed) in [
            ("redis://10.0.0.5", "redis://10.0.0.5:6379"),
            ("redis://cache.local:7000/", "redis://cache.local:7000"),
            ("redis://localhost/3", "redis://localhost:6379/3"),
            ("redis://localhost?db=3", "redis://localhost:6379/3"),
            ("redis://localhost/3?db=3", "redis://localhost:6379/3"),
            ("rediss://h:1", "rediss://h:1"),
            ("REDIS://h", "redis://h:6379"),
            ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
            ("redis://[2001:db8::1]", "redis://[2001:db8::1]:6379"),
            ("redis://:secret@h", "redis://:***@h:6379"),
            ("redis://ann:secret@h", "redis://ann:***@h:6379"),
            ("unix:/run/redis.sock", "unix:///run/redis.sock"),
            ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
            ("redis+unix:///run/r%20s", "unix:///run/r s"),
            ("unix://ann:secret@/run/s", "unix://ann:***@/run/s"),
            ("  redis://h\n", "redis://h:6379"),
        ] {
            assert_eq!(parsed(text).to_string(), printed, "{text}");
        }
        assert!(parsed("rediss://h").tls && !parsed("redis://h").tls);
    }

    #[test]
    fn users_and_passwords_are_percent_decoded() {
        let credentials = parsed("redis://a%40b:p%3a%2F%25%ff@h").credentials.unwrap();
        assert_eq!(credentials.user.as_deref(), Some(&b"a@b"[..]));
        assert_eq!(credentials.password, b"p:/%\xff");
        let credentials = parsed("redis://:@h").credentials;
        assert_eq!(credentials, None, "an empty password is none");
    }

    #[test]
    fn nothing_printed_holds_the_password() {
        let url = parsed("rediss://ann:secret@h:1/2");
        assert!(!format!("{url} {url:?} {url:#?}").contains("secret"));
        assert!(format!("{url:?}").contains("ann:***"));
        for text in [
            "redis://u:secret@",
            "redis://u:secret/x@h",
            "x://u:secret@h",
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            (
                "",
                "an upstream is written redis://host:port, or unix:/path",
            ),
            (
                "10.0.0.5:6379",
                "an upstream is written redis://host:port, or unix:/path",
            ),
            (
                "localhost:6379",
                "'localhost' is not redis, unix, redis+sentinel or redis+cluster, or",
            ),
            (
                "http://h",
                "'http' is not redis, unix, redis+sentinel or redis+cluster, or",
            ),
            ("redis:h", "the host is missing"),
            ("redis://", "the host is missing"),
            ("redis:///1", "the host is missing"),
            ("redis://:pw@/1", "the host is missing"),
            (
                "redis://h:70000",
                "invalid port number (what is special in a user",
            ),
            ("redis://[::1", "invalid IPv6 address"),
            ("redis://ann@h", "there is a user but no password"),
            ("redis://h/x", "the database 'x' is not a number"),
            ("redis://h/+1", "the database '+1' is not a number"),
            ("redis://h/-1", "the database '-1' is not a number"),
            ("redis://h?db=", "the database '' is not a number"),
            ("redis://h/1?db=2", "two different databases are given"),
            (
                "redis://h?timeout=1",
                "'timeout' is not a parameter: only db is",
            ),
            ("redis://h#1", "a '#' must be written %23"),
            (
                "unix://host/path",
                "the path of a Unix socket begins with '/'",
            ),
            ("unix:path", "the path of a Unix socket begins with '/'"),
            ("unix:", "the path of the Unix socket is missing"),
            ("unix:///", "the path of the Unix socket is missing"),
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err().to_string();
            assert!(error.starts_with(said), "{text}: {error}");
        }
    }
}
