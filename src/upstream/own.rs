//! How the front's own requests are told from those of clients, where the upstream shows what it
//! runs.
//!
//! `MONITOR` shows a request as it was written, and names of commands mean the same in upper and
//! lower case. So the front writes the names of what it sends on its own account as nobody else
//! does: `pING`. Where `MONITOR` passes through to a client, lines of such requests are left out,
//! those of other fronts as well: what is left is what clients asked for.
//!
//! Only what reads no values and changes no keys is left out, and nothing with credentials, so
//! nobody can hide more than that by writing it so.

use crate::resp::frame::FrameScanner;

pub(crate) const CLIENT: &[u8] = b"cLIENT";
pub(crate) const HELLO: &[u8] = b"hELLO";
pub(crate) const PING: &[u8] = b"pING";
pub(crate) const PTTL: &[u8] = b"pTTL";
pub(crate) const SELECT: &[u8] = b"sELECT";
pub(crate) const TOUCH: &[u8] = b"tOUCH";

/// How lines of `MONITOR` go on behind `] ` that are left out.
const LEFT_OUT: [&[u8]; 6] = [
    b"\"hELLO\" \"2\"\r",
    b"\"hELLO\" \"3\"\r",
    b"\"pING\"\r",
    b"\"pTTL\" ",
    b"\"sELECT\" ",
    b"\"tOUCH\" ",
];

/// The subcommands of `cLIENT` that are left out, in upper or lower case.
const LEFT_OUT_OF_CLIENT: [&[u8]; 7] = [
    b"CACHING",
    b"ID",
    b"TRACKING",
    b"SETNAME",
    b"SETINFO",
    b"NO-EVICT",
    b"NO-TOUCH",
];

/// What a line is, is seen in so many bytes of it: in front are a time, a database, and an address,
/// which may be the path of a socket.
const HEAD_BYTES_MAX: usize = 256;

/// The names that are written so in what is told a new connection.
const OPENINGS: [&[u8]; 3] = [CLIENT, HELLO, SELECT];

/// Appends a request in its wire form, its name written as the front's own if it has such a one.
pub(crate) fn write_opening(request: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(request);
    let mut lines = out[start..].splitn_mut(4, |&byte| byte == b'\n');
    let Some(name) = lines.nth(2) else {
        return;
    };
    let len = name.len().saturating_sub(1);
    let name = &mut name[..len];
    if let Some(own) = OPENINGS.iter().find(|own| name.eq_ignore_ascii_case(own)) {
        name.copy_from_slice(own);
    }
}

/// What passes of a connection that monitors.
#[derive(Debug, Default)]
pub(crate) struct Monitored {
    scanner: FrameScanner,
    /// The beginning of a frame, as long as it may be one of those.
    head: Vec<u8>,
    /// The present frame is left out.
    is_left_out: bool,
    /// It sends what cannot be followed: all passes.
    is_lost: bool,
}

impl Monitored {
    /// What of these bytes passes, and of what was held back before.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut frames = std::mem::take(&mut self.head);
        frames.extend_from_slice(bytes);
        let mut passed = Vec::with_capacity(frames.len());
        let mut at = 0;
        while at < frames.len() {
            let rest = &frames[at..];
            if !self.is_lost && !self.scanner.is_within_frame() {
                let Some(is_left_out) = is_left_out(rest) else {
                    self.head = rest.to_vec();
                    break;
                };
                self.is_left_out = is_left_out;
            }
            let scanned = match self.scanner.scan(rest) {
                Ok(scan) if !self.is_lost => scan.len,
                Ok(_) | Err(_) => {
                    self.is_lost = true;
                    self.is_left_out = false;
                    rest.len()
                }
            };
            if !self.is_left_out {
                passed.extend_from_slice(&rest[..scanned]);
            }
            at += scanned;
        }
        passed
    }
}

/// Whether a frame that begins so is a line of such a request. None if that is not certain yet.
fn is_left_out(frame: &[u8]) -> Option<bool> {
    if !frame.starts_with(b"+") {
        return Some(false);
    }
    let line = frame.split(|&byte| byte == b'\n').next().unwrap_or(frame);
    if line.len() == frame.len() && line.len() <= HEAD_BYTES_MAX {
        return None;
    }
    let Some(at) = memchr::memmem::find(line, b"] \"") else {
        return Some(false);
    };
    let said = &line[at + 2..];
    if let Some(said) = said.strip_prefix(b"\"cLIENT\" \"") {
        let verb = said.split(|&byte| byte == b'"').next().unwrap_or(said);
        let is_own = |own: &&[u8]| verb.eq_ignore_ascii_case(own);
        return Some(LEFT_OUT_OF_CLIENT.iter().any(is_own));
    }
    Some(LEFT_OUT.iter().any(|own| said.starts_with(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "+OK\r\n\
        +1.0 [0 127.0.0.1:1] \"set\" \"] \\\"pING\\\"\" \"v\"\r\n\
        +1.1 [9 127.0.0.1:2] \"pING\"\r\n\
        +1.2 [9 [::1]:2] \"pTTL\" \"k\"\r\n\
        +1.3 [9 unix:/a b] \"PING\"\r\n\
        +1.4 [9 lua] \"sELECT\" \"9\"\r\n\
        +1.5 [9 127.0.0.1:2] \"hELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\"\r\n\
        +1.6 [9 127.0.0.1:2] \"hELLO\" \"3\"\r\n\
        +1.7 [9 127.0.0.1:2] \"fLUSHALL\"\r\n\
        +1.7 [9 127.0.0.1:2] \"cLIENT\" \"KILL\" \"1.1.1.1:1\"\r\n\
        +1.7 [9 127.0.0.1:2] \"cLIENT\" \"setName\" \"me\"\r\n\
        $28\r\n+1.8 [0 127.0.0.1:1] \"pING\"\r\n\r\n\
        -ERR no\r\n+RESET\r\n";

    const PASSED: &str = "+OK\r\n\
        +1.0 [0 127.0.0.1:1] \"set\" \"] \\\"pING\\\"\" \"v\"\r\n\
        +1.3 [9 unix:/a b] \"PING\"\r\n\
        +1.5 [9 127.0.0.1:2] \"hELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\"\r\n\
        +1.7 [9 127.0.0.1:2] \"fLUSHALL\"\r\n\
        +1.7 [9 127.0.0.1:2] \"cLIENT\" \"KILL\" \"1.1.1.1:1\"\r\n\
        $28\r\n+1.8 [0 127.0.0.1:1] \"pING\"\r\n\r\n\
        -ERR no\r\n+RESET\r\n";

    #[test]
    fn lines_of_the_fronts_own_requests_are_left_out_however_they_are_split() {
        for piece in 1..STREAM.len() {
            let mut monitored = Monitored::default();
            let pieces = STREAM.as_bytes().chunks(piece);
            let passed: Vec<u8> = pieces.flat_map(|bytes| monitored.pass(bytes)).collect();
            assert_eq!(String::from_utf8(passed).unwrap(), PASSED, "{piece}");
        }
    }

    #[test]
    fn what_cannot_be_followed_passes_whole() {
        let mut monitored = Monitored::default();
        for bytes in [&b"+OK\r\n?"[..], b"+1.1 [9 x] \"pING\"\r\n", b"\r\n"] {
            assert_eq!(monitored.pass(bytes), bytes);
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held_back_for_long() {
        let mut monitored = Monitored::default();
        let line = [b"+", &[b'x'; HEAD_BYTES_MAX][..]].concat();
        assert_eq!(monitored.pass(&line[..HEAD_BYTES_MAX]), b"");
        assert_eq!(monitored.pass(&line[HEAD_BYTES_MAX..]), line);
    }

    #[test]
    fn the_names_of_openings_are_written_as_the_fronts_own_but_with_credentials() {
        for (request, written) in [
            (
                "*2\r\n$6\r\nselect\r\n$1\r\n9\r\n",
                "*2\r\n$6\r\nsELECT\r\n$1\r\n9\r\n",
            ),
            (
                "*2\r\n$4\r\nAUTH\r\n$6\r\nselect\r\n",
                "*2\r\n$4\r\nAUTH\r\n$6\r\nselect\r\n",
            ),
        ] {
            let mut out = b"before".to_vec();
            write_opening(request.as_bytes(), &mut out);
            assert_eq!(out, format!("before{written}").as_bytes());
        }
    }
}
