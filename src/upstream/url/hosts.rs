//! URLs with several hosts, which the URL standard does not know:
//! `redis+sentinel://[[user]:password@]host[:port],…/name[/db]`.

use percent_encoding::percent_decode_str;

use super::{
    Credentials, DEFAULT_PORT, Endpoint, Sentinels, Servers, UpstreamUrl, UrlError, database,
    decoded_text,
};

/// The port of a Sentinel where none is given.
pub const SENTINEL_PORT: u16 = 26379;

/// Most hosts of a URL.
pub const HOSTS_MAX: usize = 64;

/// What stands between the scheme and the end of a URL, taken apart but not decoded.
struct Parts<'a> {
    user_info: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    query: &'a str,
}

/// A URL whose scheme ends in `+sentinel`.
pub(super) fn sentinel(rest: &str, tls: bool) -> Result<UpstreamUrl, UrlError> {
    let parts = parts(rest)?;
    let addresses = hosts(parts.hosts, SENTINEL_PORT)?;
    let (mut user, mut password, mut in_query) = (None, None, None);
    for (name, value) in parameters(parts.query) {
        let decoded = || percent_decode_str(value).collect::<Vec<u8>>();
        match name {
            "sentinel_user" => user = Some(decoded()),
            "sentinel_password" => password = Some(decoded()),
            "db" => {
                let value = database(value)?;
                if in_query.is_some_and(|before| before != value) {
                    return Err(UrlError::TwoDatabases);
                }
                in_query = Some(value);
            }
            name => {
                return Err(UrlError::UnknownParameter {
                    name: decoded_text(name),
                    known: "db, sentinel_user and sentinel_password are",
                });
            }
        }
    }
    let own = match (user, password) {
        (user, Some(password)) => Some(Credentials { user, password }),
        (Some(_), None) => return Err(UrlError::NoSentinelPassword),
        (None, None) => None,
    };
    let mut path = parts.path.trim_matches('/').split('/');
    let name = path.next().map(decoded_text).unwrap_or_default();
    if name.is_empty() {
        return Err(UrlError::NoMasterName);
    }
    let in_path = path.next().map(database).transpose()?;
    if let Some(more) = path.next() {
        return Err(UrlError::InvalidDatabase {
            found: more.to_owned(),
        });
    }
    if in_path.is_some() && in_query.is_some() && in_path != in_query {
        return Err(UrlError::TwoDatabases);
    }
    Ok(UpstreamUrl {
        servers: Servers::Sentinel(Sentinels {
            addresses,
            master: name,
            credentials: own,
        }),
        tls,
        credentials: parts.user_info.map(credentials).transpose()?.flatten(),
        database: in_path.or(in_query).unwrap_or(0),
    })
}

/// A URL whose scheme ends in `+cluster`.
pub(super) fn cluster(rest: &str, tls: bool) -> Result<UpstreamUrl, UrlError> {
    let parts = parts(rest)?;
    let nodes = hosts(parts.hosts, DEFAULT_PORT)?;
    let in_path = parts.path.trim_matches('/');
    let in_path = (!in_path.is_empty()).then_some(in_path);
    let mut databases: Vec<&str> = in_path.into_iter().collect();
    for (name, value) in parameters(parts.query) {
        if name != "db" {
            return Err(UrlError::UnknownParameter {
                name: decoded_text(name),
                known: "db is",
            });
        }
        databases.push(value);
    }
    for digits in databases {
        if database(digits)? != 0 {
            return Err(UrlError::ClusterDatabase);
        }
    }
    Ok(UpstreamUrl {
        servers: Servers::Cluster(nodes),
        tls,
        credentials: parts.user_info.map(credentials).transpose()?.flatten(),
        database: 0,
    })
}

fn parts(rest: &str) -> Result<Parts<'_>, UrlError> {
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    Ok(Parts {
        user_info,
        hosts,
        path,
        query,
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn credentials(user_info: &str) -> Result<Option<Credentials>, UrlError> {
    match user_info.split_once(':') {
        Some((user, password)) if !password.is_empty() => Ok(Some(Credentials {
            user: (!user.is_empty()).then(|| percent_decode_str(user).collect()),
            password: percent_decode_str(password).collect(),
        })),
        Some(("", _)) => Ok(None),
        None if user_info.is_empty() => Ok(None),
        Some(_) | None => Err(UrlError::NoPassword),
    }
}

fn hosts(list: &str, default_port: u16) -> Result<Vec<Endpoint>, UrlError> {
    let hosts: Vec<_> = list
        .split(',')
        .map(|host| one_host(host.trim(), default_port))
        .collect::<Result<_, _>>()?;
    if hosts.len() > HOSTS_MAX {
        return Err(UrlError::TooManyHosts);
    }
    Ok(hosts)
}

fn one_host(text: &str, default_port: u16) -> Result<Endpoint, UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(UrlError::InvalidHost)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(UrlError::InvalidHost);
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(UrlError::InvalidHost),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(UrlError::InvalidHost),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host = decoded_text(host);
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(UrlError::InvalidHost);
    }
    let port = match port {
        None | Some("") => default_port,
        // A sign would pass `parse`.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| UrlError::InvalidPort)?
        }
        Some(_) => return Err(UrlError::InvalidPort),
    };
    Ok(Endpoint::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> UpstreamUrl {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn sentinels_are_understood_and_printed_in_their_own_form() {
        for (text, printed) in [
            (
                "redis+sentinel://a,b:1,[::1]:2,[::2]/m",
                "redis+sentinel://a:26379,b:1,[::1]:2,[::2]:26379/m",
            ),
            (
                "REDISS+sentinel://ann:secret@a/m/3",
                "rediss+sentinel://ann:***@a:26379/m/3",
            ),
            (
                "redis+sentinel://:secret@a/my%20m?db=2&sentinel_password=secret",
                "redis+sentinel://:***@a:26379/my m/2",
            ),
            ("redis+sentinel://a/m/", "redis+sentinel://a:26379/m"),
            ("redis+cluster://a,b:1/0", "redis+cluster://a:6379,b:1"),
            ("rediss+cluster://:secret@a", "rediss+cluster://:***@a:6379"),
        ] {
            let url = parsed(text);
            assert_eq!(url.to_string(), printed, "{text}");
            assert!(!format!("{url} {url:?}").contains("secret"));
        }
        assert!(parsed("rediss+sentinel://a/m").tls);
        let url = parsed("redis+sentinel://u:p%40@a/m?sentinel_user=s%26&sentinel_password=%3d+");
        let Servers::Sentinel(sentinels) = &url.servers else {
            panic!("{url}");
        };
        let own = sentinels.credentials.as_ref().unwrap();
        assert_eq!(own.user.as_deref(), Some(&b"s&"[..]));
        assert_eq!(own.password, b"=+");
        assert_eq!(url.credentials.unwrap().password, b"p@");
    }

    #[test]
    fn what_is_wrong_with_a_list_of_hosts_is_said() {
        for (text, said) in [
            ("redis+sentinel://", "the host is missing"),
            ("redis+sentinel://a,,b/m", "the host is missing"),
            ("redis+sentinel://a", "the name of the master is missing"),
            ("redis+sentinel://a//", "the name of the master is missing"),
            (
                "redis+sentinel://a:70000/m",
                "a port is a number up to 65535",
            ),
            ("redis+sentinel://a:+1/m", "a port is a number up to 65535"),
            (
                "redis+sentinel://::1/m",
                "a host is a name, an IPv4 address or [an IPv6 one]",
            ),
            (
                "redis+sentinel://[a]/m",
                "a host is a name, an IPv4 address or [an IPv6 one]",
            ),
            (
                "redis+sentinel://ann@a/m",
                "there is a user but no password",
            ),
            (
                "redis+sentinel://a/m?sentinel_user=x",
                "there is a sentinel_user but no sentinel_password",
            ),
            ("redis+sentinel://a/m/x", "the database 'x' is not a number"),
            (
                "redis+sentinel://a/m/1?db=2",
                "two different databases are given",
            ),
            (
                "redis+sentinel://a/m?quorum=1",
                "'quorum' is not a parameter: only db, sentinel_user and sentinel_password are",
            ),
            ("redis+cluster://a/1", "a cluster has database 0 only"),
            ("redis+cluster://a?db=2", "a cluster has database 0 only"),
            ("redis+cluster://a/x", "the database 'x' is not a number"),
            ("redis+sentinel://a/m#1", "a '#' must be written %23"),
        ] {
            let error = text.parse::<UpstreamUrl>().unwrap_err().to_string();
            assert!(error.starts_with(said), "{text}: {error}");
        }
        let many = vec!["a"; HOSTS_MAX + 1].join(",");
        let error = format!("redis+sentinel://{many}/m").parse::<UpstreamUrl>();
        assert_eq!(error, Err(UrlError::TooManyHosts));
    }
}
