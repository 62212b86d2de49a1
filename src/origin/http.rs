//! HTTP: GET loads, PUT stores, DELETE deletes.
//!
//! What a client sent is a part of a path segment or of a query component and percent-encoded as
//! that, but for unreserved characters. A segment that would be empty, `.` or `..` is refused,
//! since it would name another resource and no encoding helps: `%2e%2e` goes up as well. Headers
//! take visible ASCII without separators. A body is read as it comes, up to `max-value`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::header::{AGE, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::rules::template::{Part, Template};
use crate::config::rules::{Header, HttpSpec, Secret};

use super::pool::Health;
use super::{Call, Failure, FailureKind, Found, Verb, fill, read};

/// What is not encoded: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'.');
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;
/// How much of a body that is no value is read, so that its connection can be used again.
const DRAINED_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Loader {
    client: Client,
    spec: HttpSpec,
    store_method: Option<Method>,
    delete_method: Option<Method>,
    /// Headers that are the same for all requests, credentials among them.
    headers: HeaderMap,
    /// Those that are not.
    templates: Vec<(HeaderName, Template)>,
    /// User and password.
    basic_auth: Option<(String, String)>,
    health: Health,
}

impl Loader {
    pub(super) fn build(spec: &HttpSpec) -> Result<Self, String> {
        let method = |name: &Option<String>| match name {
            Some(name) => Method::from_bytes(name.as_bytes())
                .map(Some)
                .map_err(|_| format!("{name} is no method")),
            None => Ok(None),
        };
        let (headers, templates) = headers(spec)?;
        let basic_auth = match &spec.basic_auth {
            None => None,
            Some(secret) => {
                let both = read(secret)?;
                let (user, password) = both.split_once(':').unwrap_or((&both, ""));
                Some((user.to_owned(), password.to_owned()))
            }
        };
        let redirects = if spec.follow_redirects {
            Policy::custom(follow)
        } else {
            Policy::none()
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls(spec)?)
            .redirect(redirects)
            .no_proxy()
            .referer(false)
            .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(spec.pool.connect_timeout)
            .pool_max_idle_per_host(spec.pool.idle)
            .pool_idle_timeout(spec.pool.idle_timeout)
            .build()
            .map_err(|error| deepest(&error))?;
        Ok(Self {
            client,
            store_method: method(&spec.store_method)?,
            delete_method: method(&spec.delete_method)?,
            headers,
            templates,
            basic_auth,
            health: Health::new(),
            spec: spec.clone(),
        })
    }

    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        verb: Verb<'_>,
        max_value: usize,
    ) -> Result<Option<Found>, Failure> {
        let url = url(&self.spec.url, call)?;
        let none = || Failure::new(FailureKind::Refused, "the origin has no such method");
        let (method, body) = match verb {
            Verb::Load => (Method::GET, None),
            Verb::Store(value, _) => (
                self.store_method.clone().ok_or_else(none)?,
                Some(Bytes::copy_from_slice(value)),
            ),
            Verb::Delete => (self.delete_method.clone().ok_or_else(none)?, None),
        };
        let was_well = self.health.is_well();
        let mut sent = self.send(&method, &url, call, body.clone()).await?;
        // A connection that its server has just closed, as it may, must not cost a failure.
        if was_well && method == Method::GET && sent.as_ref().is_err_and(is_closed) {
            self.health.set(false);
            sent = self.send(&method, &url, call, body).await?;
        }
        self.health.set(sent.is_ok());
        let response = sent.map_err(|error| failed(&error))?;
        self.judge(response, verb, max_value).await
    }

    /// Sends a request. The outer error: it cannot be put together.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        call: &Call<'_>,
        body: Option<Bytes>,
    ) -> Result<Result<Response, reqwest::Error>, Failure> {
        let mut request = self
            .client
            .request(method.clone(), url.clone())
            .headers(self.headers.clone());
        for (name, template) in &self.templates {
            request = request.header(name, header_value(template, call)?);
        }
        if let Some((user, password)) = &self.basic_auth {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        Ok(request.send().await)
    }

    async fn judge(
        &self,
        mut response: Response,
        verb: Verb<'_>,
        max_value: usize,
    ) -> Result<Option<Found>, Failure> {
        let status = response.status();
        if self.spec.absent_status.contains(&status.as_u16()) {
            drain(&mut response).await;
            return Ok(None);
        }
        if !status.is_success() || status == StatusCode::PARTIAL_CONTENT {
            drain(&mut response).await;
            let text = format!("status {}", status.as_u16());
            let is_ill = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return Err(if is_ill {
                Failure::ill(text)
            } else {
                Failure::new(FailureKind::Refused, text)
            });
        }
        if !matches!(verb, Verb::Load) {
            drain(&mut response).await;
            return Ok(Some(Found::of(Vec::new())));
        }
        let ttl = if self.spec.ttl_from_cache_control {
            freshness(response.headers())
        } else {
            None
        };
        let tags = match &self.spec.tag_header {
            Some(name) => tags(response.headers(), name)?,
            None => Vec::new(),
        };
        let mut found = Found::of(body(&mut response, max_value).await?);
        (found.ttl, found.tags) = (ttl, tags);
        Ok(Some(found))
    }
}

/// Headers that are known now, and those that depend on the call.
fn headers(spec: &HttpSpec) -> Result<(HeaderMap, Vec<(HeaderName, Template)>), String> {
    let (mut fixed, mut templates) = (HeaderMap::new(), Vec::new());
    let known = |name: &str, text: &str| {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| format!("the header {name} would have bytes that it cannot have"))?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    for (name, Secret(header)) in &spec.headers {
        let header_name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name} is no header's name"))?;
        match header {
            Header::Elsewhere(text) => {
                let text = read(&Secret(text.clone()))?;
                fixed.append(header_name, known(name, &text)?);
            }
            Header::Template(template) => match template.parts() {
                [] => drop(fixed.append(header_name, HeaderValue::from_static(""))),
                [Part::Text(text)] => drop(fixed.append(header_name, known(name, text)?)),
                _ => templates.push((header_name, template.clone())),
            },
        }
    }
    if let Some(token) = &spec.bearer_token {
        let token = format!("Bearer {}", read(token)?);
        let value = known("authorization", &token)?;
        fixed.insert(reqwest::header::AUTHORIZATION, value);
    }
    Ok((fixed, templates))
}

/// Redirects are followed within one server only: no answer sends us, or what we know, elsewhere.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let first = attempt.previous().first();
    let is_same = first.is_some_and(|first| first.origin() == attempt.url().origin());
    if is_same && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// The settings of TLS: of no use, and cheap, where the URL has none.
fn tls(spec: &HttpSpec) -> Result<ClientConfig, String> {
    let is_https = matches!(
        spec.url.parts().first(),
        Some(Part::Text(text)) if text.starts_with("https:")
    );
    let mut roots = RootCertStore::empty();
    if let Some(path) = &spec.tls_ca_cert_file {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"there is no certificate in it"));
        }
    } else if is_https {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &spec.tls_identity {
        None => builder.with_no_client_auth(),
        Some((certificate_path, key_path)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(certificate_path).and_then(Iterator::collect);
            let chain =
                chain.map_err(|error| format!("{}: {error}", certificate_path.display()))?;
            let key = PrivateKeyDer::from_pem_file(key_path)
                .map_err(|error| format!("{}: {error}", key_path.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("{}: {error}", certificate_path.display()))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The URL of a call.
fn url(template: &Template, call: &Call<'_>) -> Result<Url, Failure> {
    let mut url = String::new();
    for part in template.parts() {
        match part {
            Part::Text(text) => url.push_str(text),
            Part::Place(place, _) => {
                let bytes = fill::bytes_of(call, b"", *place);
                // Writing to a String cannot fail.
                let _ = write!(url, "{}", percent_encode(bytes, ENCODED));
            }
        }
    }
    if template.parts().len() > 1 {
        check_path(&url, template)?;
    }
    Url::parse(&url).map_err(|error| fill::unfit(&error.to_string()))
}

/// Whether all segments of the path are names, but for those that are none whatever was sent.
fn check_path(url: &str, template: &Template) -> Result<(), Failure> {
    let own = String::from_utf8(template.fill(|_| b"x")).unwrap_or_default();
    for (segment, own) in segments(url).zip(segments(&own)) {
        if is_no_name(segment) && !is_no_name(own) {
            return Err(fill::unfit("it would be no name in a path"));
        }
    }
    Ok(())
}

/// The segments of a URL's path.
fn segments(url: &str) -> impl Iterator<Item = &str> {
    let (_, behind) = url.split_once("://").unwrap_or_default();
    let path = behind.split('?').next().unwrap_or(behind);
    // The first is the server.
    path.split('/').skip(1)
}

fn is_no_name(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain.is_empty() || plain == "." || plain == ".."
}

/// A header's value, in which what a client sent is a word and no separator.
fn header_value(template: &Template, call: &Call<'_>) -> Result<HeaderValue, Failure> {
    let is_word = |byte: &u8| byte.is_ascii_graphic() && !b"\",;\\".contains(byte);
    for part in template.parts() {
        if let Part::Place(place, _) = part
            && !fill::bytes_of(call, b"", *place).iter().all(is_word)
        {
            return Err(fill::unfit("it cannot be part of a header"));
        }
    }
    HeaderValue::from_bytes(&fill::plain(template, call))
        .map_err(|_| fill::unfit("it cannot be part of a header"))
}

/// The body, which may not be longer than this.
async fn body(response: &mut Response, max: usize) -> Result<Vec<u8>, Failure> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |bytes| bytes > max) {
        return Err(Failure::too_large(max));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > max {
            return Err(Failure::too_large(max));
        }
        body.extend_from_slice(&chunk);
    }
    body.shrink_to_fit();
    Ok(body)
}

/// Reads a short body to its end, so that its connection can be used again.
async fn drain(response: &mut Response) {
    let mut left = DRAINED_BYTES_MAX;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// How long a response is fresh for a shared cache, as RFC 9111 has it. `None`: it does not say.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let (mut max_age, mut shared_max_age) = (None, None);
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in line.to_str().unwrap_or_default().split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let seconds = || value.trim().trim_matches('"').parse::<u64>().ok();
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" | "private" => return Some(Duration::ZERO),
                "max-age" => max_age = max_age.or_else(seconds),
                "s-maxage" => shared_max_age = shared_max_age.or_else(seconds),
                _ => {}
            }
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok());
    let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    let seconds = shared_max_age.or(max_age)?.min(SECONDS_MAX);
    Some(Duration::from_secs(seconds.saturating_sub(age)))
}

/// The longest that a value is fresh because its origin says so: RFC 9111's bound.
const SECONDS_MAX: u64 = 1 << 31;

fn tags(headers: &HeaderMap, name: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let mut tags = Vec::new();
    for line in headers.get_all(name) {
        fill::add_tags(&mut tags, line.as_bytes())?;
    }
    Ok(tags)
}

/// Whether a connection was closed before any answer came.
fn is_closed(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_closed();
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
            return matches!(error.kind(), ConnectionReset | BrokenPipe);
        }
        source = error.source();
    }
    false
}

fn failed(error: &reqwest::Error) -> Failure {
    let text = deepest(error);
    if error.is_connect() {
        Failure::new(FailureKind::Connect, format!("cannot connect: {text}"))
    } else if error.is_timeout() {
        Failure::new(FailureKind::Timeout, text)
    } else if error.is_builder() {
        fill::unfit(&text)
    } else {
        Failure::new(FailureKind::Lost, format!("the answer broke off: {text}"))
    }
}

/// What is behind an error of reqwest, whose own words have the URL in them.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest = std::error::Error::source(error);
    while let Some(source) = deepest.and_then(std::error::Error::source) {
        deepest = Some(source);
    }
    deepest.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::rules::template::Allowed;

    fn url_of(template: &str, captures: &[&[u8]]) -> Result<String, String> {
        let template = Template::parse(template, Allowed::Captures).unwrap();
        let call = Call {
            key: b"key",
            captures,
            deadline: Instant::now(),
        };
        url(&template, &call)
            .map(|url| url.to_string())
            .map_err(|failure| failure.text)
    }

    #[test]
    fn what_a_client_sent_stays_within_its_segment_or_component() {
        let all: Vec<u8> = (0..=255).collect();
        let hostile: &[&[u8]] = &[
            b"a/../../admin",
            b"42?admin=1",
            b"42&admin=1#x",
            b"%2e%2e%2fadmin",
            b"a b\r\nhost: evil",
            b"@evil.example/",
            b"\\\\evil",
            b"...",
            b"a;b=c",
            &all,
        ];
        for bytes in hostile {
            let text = url_of("http://h:1/users/{1}/x?id={1}&y=1", &[bytes]).unwrap();
            let parsed = Url::parse(&text).unwrap();
            assert_eq!(parsed.host_str(), Some("h"));
            let segments: Vec<_> = parsed.path_segments().unwrap().collect();
            assert_eq!(
                (segments.len(), segments[0], segments[2]),
                (3, "users", "x")
            );
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(segments[1]).collect();
            assert_eq!(&decoded, bytes);
            let query = parsed.query().unwrap();
            let value = query
                .strip_prefix("id=")
                .unwrap()
                .strip_suffix("&y=1")
                .unwrap();
            assert!(!value.contains(['&', '=', '#', '+', ' ']), "{value}");
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(value).collect();
            assert_eq!(&decoded, bytes);
        }
    }

    #[test]
    fn a_segment_that_is_no_name_is_refused() {
        for bytes in [&b""[..], b".", b".."] {
            assert!(url_of("http://h/users/{1}", &[bytes]).is_err());
            assert!(url_of("http://h/users/{1}/x", &[bytes]).is_err());
        }
        assert!(url_of("http://h/{1}{2}", &[b".", b"."]).is_err());
        assert!(url_of("http://h/.{1}", &[b"."]).is_err());
        assert_eq!(
            url_of("http://h/x?q={1}", &[b".."]).unwrap(),
            "http://h/x?q=.."
        );
        assert_eq!(
            url_of("http://h/users/{1}/", &[b"a"]).unwrap(),
            "http://h/users/a/"
        );
        assert!(url_of("http://h/users/{1}/", &[b""]).is_err());
        assert_eq!(url_of("http://h/?q={1}", &[b"a"]).unwrap(), "http://h/?q=a");
        assert_eq!(url_of("http://h/a.{1}", &[b"."]).unwrap(), "http://h/a..");
    }

    #[test]
    fn a_header_takes_words_only() {
        let template = Template::parse("id={1}", Allowed::Captures).unwrap();
        let value = |bytes: &[u8]| {
            let call = Call {
                key: b"",
                captures: &[bytes],
                deadline: Instant::now(),
            };
            header_value(&template, &call).map(|value| value.as_bytes().to_vec())
        };
        assert_eq!(value(b"a:42/x=y").unwrap(), b"id=a:42/x=y");
        for bytes in [
            &b"a\r\nx: y"[..],
            b"\0",
            b"a;admin=1",
            b"a, b",
            b"\"",
            b"\xff",
            b"\x7f",
            b" ",
        ] {
            assert_eq!(value(bytes).unwrap_err().kind, FailureKind::Refused);
        }
    }

    #[test]
    fn cache_control_says_how_long_a_response_is_fresh() {
        let cases: &[(&[&str], Option<&str>, Option<u64>)] = &[
            (&[], None, None),
            (&["max-age=60"], None, Some(60)),
            (&["public, max-age=60 , s-maxage=10"], None, Some(10)),
            (&["max-age=60", "S-MaxAge=10"], None, Some(10)),
            (&["max-age=60"], Some("20"), Some(40)),
            (&["max-age=60"], Some("90"), Some(0)),
            (&["max-age=60"], Some("x"), Some(60)),
            (&["max-age=\"60\""], None, Some(60)),
            (&["max-age=-1"], None, None),
            (&["max-age=60, no-store"], None, Some(0)),
            (&["private, max-age=60"], None, Some(0)),
            (&["no-cache=\"x\""], None, Some(0)),
            (&["max-age=99999999999"], None, Some(SECONDS_MAX)),
            (&["must-revalidate"], None, None),
        ];
        for (lines, age, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            if let Some(age) = age {
                headers.insert(AGE, age.parse().unwrap());
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(freshness(&headers), expected, "{lines:?} {age:?}");
        }
    }
}
