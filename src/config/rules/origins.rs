//! `[[origin]]`: its keys for each kind, and how they are read.

use std::path::PathBuf;

use super::error::Error;
use super::reader::{Key, Table, key};
use super::template::{Allowed, Part, Template};
use super::{
    BreakerSpec, CommandSpec, Dialect, Header, HttpSpec, OriginKind, OriginSpec, PoolSpec,
    RedisSpec, Secret, SqlSpec, Text,
};

/// The kinds, in the order of [`read_kind`]'s arms.
const KINDS: &[&str] = &["http", "postgres", "mysql", "sqlite", "command", "redis"];
/// The longest value that can be asked for: Redis's longest string.
const MAX_VALUE_MAX: u64 = 512 << 20;
/// The exit code of a command that found nothing: `EX_NOINPUT` of sysexits.h. Not 1, with which a
/// shell or an interpreter says that the program itself failed.
const ABSENT_EXIT: i64 = 66;

pub(super) const KEYS: &[Key] = &[
    key("name", "text", "needed", "What rules call it."),
    key(
        "kind",
        "`http`, `postgres`, `mysql`, `sqlite`, `command`, `redis`",
        "needed",
        "What it is.",
    ),
    key(
        "concurrency",
        "a number from 1",
        "`64`",
        "How many calls are under way at most.",
    ),
    key(
        "queue",
        "a number from 0",
        "`1024`",
        "How many calls wait for their turn at most. One more fails at once.",
    ),
    key(
        "refresh-concurrency",
        "a number from 1",
        "`8`",
        "How many of them are refreshes at most, early ones and those of stale values. Where more \
         keys need one at a time, they are served stale for longer.",
    ),
    key(
        "max-value",
        "bytes",
        "`1mb`",
        "The longest value that is taken.",
    ),
    key(
        "breaker-failures",
        "a number from 0",
        "`5`",
        "After how many failures in a row the origin is left alone. 0 is never.",
    ),
    key(
        "breaker-open",
        "a duration",
        "`1s`",
        "How long it is, until a probe. Up to a quarter more, at random.",
    ),
    key(
        "breaker-probes",
        "a number from 1",
        "`1`",
        "How many probes must succeed in a row until it is used as before.",
    ),
];

pub(super) const POOL_KEYS: &[Key] = &[
    key(
        "pool",
        "a number from 0",
        "`16`",
        "How many connections are kept while nobody uses them.",
    ),
    key("idle-timeout", "a duration", "`60s`", "How long they are."),
    key(
        "connect-timeout",
        "a duration",
        "`1s`",
        "How long it may take to connect.",
    ),
];

pub(super) const HTTP_KEYS: &[Key] = &[
    key(
        "url",
        "a URL with places",
        "needed",
        "What is asked for, by GET. A place stands in the path or the query, and is escaped as \
         a part of it.",
    ),
    key(
        "store-method",
        "text",
        "`PUT`",
        "The method of a store, of the same URL. `none`: it cannot store.",
    ),
    key(
        "delete-method",
        "text",
        "`DELETE`",
        "The method of a delete. `none`: it cannot delete.",
    ),
    key(
        "headers",
        "a table of texts with places",
        "none",
        "Headers of every request. A value may be `env:NAME` or `file:PATH`.",
    ),
    key(
        "basic-auth",
        "`user:password`",
        "none",
        "User and password. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "bearer-token",
        "text",
        "none",
        "The token of `authorization: Bearer`. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "absent-status",
        "a list of numbers",
        "`[404, 410]`",
        "Which statuses say that there is no such value. 200 to 299 say that there is one, all \
         others are failures.",
    ),
    key(
        "ttl-from",
        "`cache-control`",
        "none",
        "Takes `s-maxage` or `max-age`, less `age`, for the `ttl`; with `no-store` the value is \
         not kept.",
    ),
    key(
        "tag-header",
        "text",
        "none",
        "The response header that has the value's tags: `cache-tag` (commas or spaces between), \
         `surrogate-key` (spaces).",
    ),
    key(
        "follow-redirects",
        "true or false",
        "false",
        "Whether redirects within the same server are followed, 5 at most. They are failures \
         else.",
    ),
    key(
        "tls-ca-cert-file",
        "a path",
        "the system's",
        "Certificates of the authorities that the server's must come from (PEM).",
    ),
    key(
        "tls-cert-file",
        "a path",
        "none",
        "The certificate to show (PEM).",
    ),
    key("tls-key-file", "a path", "none", "Its private key (PEM)."),
];

pub(super) const SQL_KEYS: &[Key] = &[
    key(
        "url",
        "a URL",
        "needed",
        "`postgres://user@host/database`, `mysql://…`, `sqlite:/path/file.db`. May be \
         `env:NAME` or `file:PATH`.",
    ),
    key(
        "password",
        "text",
        "the URL's",
        "The password. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "load",
        "SQL with places",
        "needed",
        "The statement that loads a value: of one column as it is, of more as a JSON object of \
         the first row. No row, or NULL, is no value.",
    ),
    key(
        "store",
        "SQL with places",
        "none",
        "The statement that stores a value, with `{value}` for it.",
    ),
    key(
        "delete",
        "SQL with places",
        "none",
        "The statement that deletes a value.",
    ),
    key(
        "tag-column",
        "text",
        "none",
        "The column that has the value's tags, commas or spaces between. It is no part of the \
         value.",
    ),
    key(
        "ttl-column",
        "text",
        "none",
        "The column that has how many seconds the value is fresh. It is no part of the value.",
    ),
];

pub(super) const COMMAND_KEYS: &[Key] = &[
    key(
        "load",
        "a list of texts with places",
        "needed",
        "The program and its arguments. Prints the value, exit code 0.",
    ),
    key(
        "store",
        "a list of texts with places",
        "none",
        "Reads the value from its standard input.",
    ),
    key(
        "delete",
        "a list of texts with places",
        "none",
        "Removes the value.",
    ),
    key(
        "absent-exit",
        "a number from 1 to 255",
        "`66`",
        "The exit code that says that there is no such value. All others but 0 are failures.",
    ),
    key(
        "environment",
        "a list of texts",
        "none",
        "Its environment besides PATH: `NAME` as it is here, or `NAME=value`.",
    ),
    key("directory", "a path", "`/`", "Where it runs."),
];

pub(super) const REDIS_KEYS: &[Key] = &[
    key(
        "url",
        "a URL",
        "needed",
        "`redis://host:6379/0`, `rediss://…`, `unix:///path`. May be `env:NAME` or `file:PATH`.",
    ),
    key(
        "password",
        "text",
        "the URL's",
        "The password. May be `env:NAME` or `file:PATH`.",
    ),
    key("key", "text with places", "`{key}`", "The key there."),
    key(
        "ttl-from",
        "`pttl`",
        "none",
        "Takes its time to live there for the `ttl`.",
    ),
];

pub(super) fn read(table: &Table<'_>) -> Result<OriginSpec, Error> {
    let name = table.needed_text("name")?;
    table.needed_text("kind")?;
    let kind = table.choice("kind", KINDS)?.unwrap_or_default();
    let kind = read_kind(table, kind)?;
    let mut origin = OriginSpec::new(&name, kind);
    origin.concurrency = table.count("concurrency", 1, origin.concurrency)?;
    origin.queue = table.count("queue", 0, origin.queue)?;
    origin.refresh_concurrency =
        table.count("refresh-concurrency", 1, origin.refresh_concurrency)?;
    if let Some(bytes) = table.bytes("max-value", MAX_VALUE_MAX)? {
        origin.max_value = bytes;
    }
    origin.breaker = read_breaker(table, origin.breaker)?;
    Ok(origin)
}

fn read_kind(table: &Table<'_>, kind: usize) -> Result<OriginKind, Error> {
    Ok(match kind {
        0 => OriginKind::Http(read_http(table)?),
        1 => OriginKind::Sql(read_sql(table, Dialect::Postgres)?),
        2 => OriginKind::Sql(read_sql(table, Dialect::Mysql)?),
        3 => OriginKind::Sql(read_sql(table, Dialect::Sqlite)?),
        4 => OriginKind::Command(read_command(table)?),
        _ => OriginKind::Redis(read_redis(table)?),
    })
}

fn read_breaker(table: &Table<'_>, default: BreakerSpec) -> Result<BreakerSpec, Error> {
    let count = |key, min: u32, default: u32| {
        let number = table.number(key, i64::from(min)..=1_000_000, i64::from(default))?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    };
    Ok(BreakerSpec {
        failures: count("breaker-failures", 0, default.failures)?,
        open: table.positive("breaker-open")?.unwrap_or(default.open),
        probes: count("breaker-probes", 1, default.probes)?,
    })
}

fn read_pool(table: &Table<'_>) -> Result<PoolSpec, Error> {
    let default = PoolSpec::DEFAULT;
    let idle_timeout = table.positive("idle-timeout")?;
    let connect_timeout = table.positive("connect-timeout")?;
    Ok(PoolSpec {
        idle: table.count("pool", 0, default.idle)?,
        idle_timeout: idle_timeout.unwrap_or(default.idle_timeout),
        connect_timeout: connect_timeout.unwrap_or(default.connect_timeout),
    })
}

fn read_http(table: &Table<'_>) -> Result<HttpSpec, Error> {
    table.only(&[KEYS, HTTP_KEYS, POOL_KEYS])?;
    let method = |key, default: &str| {
        let text = table.text(key)?.unwrap_or_else(|| default.to_owned());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase()) && text != "none"
        {
            let why = "is not a method such as PUT, or none".to_owned();
            return Err(table.error(key, why));
        }
        Ok((text != "none").then_some(text))
    };
    if table.has("basic-auth") && table.has("bearer-token") {
        let why = "basic-auth is set too, and there can be only one".to_owned();
        return Err(table.error("bearer-token", why));
    }
    let identity = (table.path("tls-cert-file")?, table.path("tls-key-file")?);
    let absent = table.numbers("absent-status", 100, 599)?;
    Ok(HttpSpec {
        url: read_url(table)?,
        store_method: method("store-method", "PUT")?,
        delete_method: method("delete-method", "DELETE")?,
        headers: read_headers(table)?,
        basic_auth: table.secret("basic-auth")?,
        bearer_token: table.secret("bearer-token")?,
        absent_status: absent.unwrap_or_else(|| vec![404, 410]),
        ttl_from_cache_control: table.choice("ttl-from", &["cache-control"])?.is_some(),
        tag_header: table
            .text("tag-header")?
            .map(|name| name.to_ascii_lowercase()),
        follow_redirects: table.flag("follow-redirects", false)?,
        tls_ca_cert_file: table.path("tls-ca-cert-file")?,
        tls_identity: match identity {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(needs(table, "tls-cert-file", "tls-key-file")),
            (None, Some(_)) => return Err(needs(table, "tls-key-file", "tls-cert-file")),
        },
        pool: read_pool(table)?,
    })
}

fn needs(table: &Table<'_>, key: &str, other: &str) -> Error {
    table.error(key, format!("needs {other}"))
}

/// A URL whose places are in its path or query, so that no client chooses the server.
fn read_url(table: &Table<'_>) -> Result<Template, Error> {
    let text = table.needed_text("url")?;
    let template = table.parsed("url", &text, Allowed::Captures)?;
    let wrong = |why: &str| table.error("url", why);
    let head = match template.parts().first() {
        Some(Part::Text(text)) => text.as_str(),
        Some(Part::Place(..)) | None => "",
    };
    let is_http = head.starts_with("http://") || head.starts_with("https://");
    let (_, behind) = head.split_once("://").unwrap_or_default();
    if !is_http {
        return Err(wrong("does not begin with http:// or https://"));
    }
    if template.parts().len() > 1 && !behind.contains(['/', '?']) {
        return Err(wrong("a place can stand in the path or the query only"));
    }
    let texts = template.parts().iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Place(..) => None,
    });
    if texts.clone().any(|text| text.contains('#')) {
        return Err(wrong("a fragment (#) is never sent: write %23"));
    }
    let whole = String::from_utf8(template.fill(|_| b"x")).unwrap_or_default();
    match url::Url::parse(&whole) {
        Ok(url) if url.has_host() => Ok(template),
        Ok(_) => Err(wrong("has no host")),
        Err(error) => Err(wrong(&format!("is no URL: {error}"))),
    }
}

fn read_headers(table: &Table<'_>) -> Result<Vec<(String, Secret<Header>)>, Error> {
    /// Headers that say how a message is framed, and to whom it goes.
    const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding", "connection"];
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut headers = Vec::new();
    for (name, value) in table.pairs("headers")? {
        let name = name.to_ascii_lowercase();
        let wrong = |why: String| table.error("headers", format!("{name}: {why}"));
        if name.is_empty() || !name.bytes().all(is_token) || FRAMING.contains(&name.as_str()) {
            return Err(wrong("cannot be set".to_owned()));
        }
        let header = match Text::new(&value) {
            Text::Plain(text) => {
                let template = Template::parse(&text, Allowed::Captures).map_err(&wrong)?;
                let is_visible = |byte: u8| (b' '..=b'~').contains(&byte);
                if !text.bytes().all(is_visible) {
                    return Err(wrong("may have visible ASCII in it only".to_owned()));
                }
                Header::Template(template)
            }
            elsewhere @ (Text::Variable(_) | Text::File(_)) => Header::Elsewhere(elsewhere),
        };
        headers.push((name, Secret(header)));
    }
    Ok(headers)
}

fn read_sql(table: &Table<'_>, dialect: Dialect) -> Result<SqlSpec, Error> {
    table.only(&[KEYS, SQL_KEYS, POOL_KEYS])?;
    table.needed_text("load")?;
    let schemes: &[&str] = match dialect {
        Dialect::Postgres => &["postgres://", "postgresql://"],
        Dialect::Mysql => &["mysql://", "mariadb://"],
        Dialect::Sqlite => &["sqlite:"],
    };
    let statement = |key, allowed| {
        let template = table.template(key, allowed)?;
        if template.as_ref().is_some_and(has_quoted_place) {
            let why = "write {1}, not '{1}': it is a bind parameter";
            return Err(table.error(key, why));
        }
        Ok(template)
    };
    let load = statement("load", Allowed::TypedCaptures)?;
    Ok(SqlSpec {
        dialect,
        url: read_address(table, schemes)?,
        password: table.secret("password")?,
        load: load.ok_or_else(|| table.error("load", "load is missing".to_owned()))?,
        store: statement("store", Allowed::TypedCapturesAndValue)?,
        delete: statement("delete", Allowed::TypedCaptures)?,
        tag_column: table.text("tag-column")?,
        ttl_column: table.text("ttl-column")?,
        pool: read_pool(table)?,
    })
}

/// The URL of a server, if it is known now, has one of these schemes.
pub(super) fn read_address(table: &Table<'_>, schemes: &[&str]) -> Result<Secret<Text>, Error> {
    let text = table.needed_text("url")?;
    let url = Text::new(&text);
    if let Text::Plain(text) = &url
        && !schemes.iter().any(|scheme| text.starts_with(scheme))
    {
        let why = format!("does not begin with {}", schemes.join(" or "));
        return Err(table.error("url", why));
    }
    Ok(Secret(url))
}

/// Whether a place is part of a quoted text, where a database would take it for that text. To be
/// helpful only: a place is a bind parameter wherever it stands.
fn has_quoted_place(template: &Template) -> bool {
    let mut quote: Option<char> = None;
    for part in template.parts() {
        let text = match part {
            Part::Text(text) => text,
            Part::Place(..) if quote.is_some() => return true,
            Part::Place(..) => continue,
        };
        for c in text.chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
                Some(_) | None => {}
            }
        }
    }
    false
}

fn read_command(table: &Table<'_>) -> Result<CommandSpec, Error> {
    table.only(&[KEYS, COMMAND_KEYS])?;
    let load = read_argv(table, "load")?;
    let mut environment = table.texts("environment")?.unwrap_or_default();
    for variable in &environment {
        let name = variable.split('=').next().unwrap_or_default();
        if name.is_empty() || variable.contains('\0') {
            let why = format!("{variable:?} is neither NAME nor NAME=value");
            return Err(table.error("environment", why));
        }
    }
    environment.insert(0, "PATH".to_owned());
    let absent = table.number("absent-exit", 1..=255, ABSENT_EXIT)?;
    Ok(CommandSpec {
        load: load.ok_or_else(|| table.error("load", "load is missing".to_owned()))?,
        store: read_argv(table, "store")?,
        delete: read_argv(table, "delete")?,
        absent_exit: i32::try_from(absent).unwrap_or_default(),
        environment,
        directory: table
            .path("directory")?
            .unwrap_or_else(|| PathBuf::from("/")),
    })
}

/// A program and its arguments, in which no client's bytes choose the program or are code.
fn read_argv(table: &Table<'_>, key: &str) -> Result<Option<Vec<Template>>, Error> {
    let Some(argv) = table.templates(key)? else {
        return Ok(None);
    };
    let has_places = |template: &Template| {
        let is_place = |part: &Part| matches!(part, Part::Place(..));
        template.parts().iter().any(is_place)
    };
    let literal = |template: &Template| match template.parts() {
        [Part::Text(text)] => Some(text.clone()),
        _ => None,
    };
    let Some(program) = argv.first().and_then(literal) else {
        let why = "must begin with a program, which no place is part of".to_owned();
        return Err(table.error(key, why));
    };
    if argv
        .iter()
        .filter_map(literal)
        .any(|text| text.contains('\0'))
    {
        return Err(table.error(key, "has a NUL byte".to_owned()));
    }
    let mut interprets = is_interpreter(&program);
    for pair in argv.windows(2) {
        let option = literal(&pair[0]).unwrap_or_default();
        interprets |= is_interpreter(&option);
        let is_code = option.starts_with('-') && option.ends_with(['c', 'e', 'r', 'E', 'l']);
        if interprets && is_code && has_places(&pair[1]) {
            let why = format!(
                "what follows {option} is code: give it {{1}} as an argument behind, $1 in a shell"
            );
            return Err(table.error(key, why));
        }
    }
    Ok(Some(argv))
}

/// Programs that run what follows their `-c` or `-e`.
fn is_interpreter(program: &str) -> bool {
    const NAMES: &[&str] = &[
        "sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "python", "perl", "ruby", "node", "php",
        "lua", "tclsh", "awk", "gawk", "su", "psql", "mysql",
    ];
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    NAMES.contains(&name)
}

fn read_redis(table: &Table<'_>) -> Result<RedisSpec, Error> {
    table.only(&[KEYS, REDIS_KEYS, POOL_KEYS])?;
    let key = table.text("key")?.unwrap_or_else(|| "{key}".to_owned());
    Ok(RedisSpec {
        url: read_address(table, &["redis://", "rediss://", "unix://"])?,
        password: table.secret("password")?,
        key: table.parsed("key", &key, Allowed::Captures)?,
        ttl_from_pttl: table.choice("ttl-from", &["pttl"])?.is_some(),
        pool: read_pool(table)?,
    })
}
