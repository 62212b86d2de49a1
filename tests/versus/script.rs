//! Scripts of commands, run on two servers that must reply alike.
//!
//! A script is a file of sentences. Each begins with a line `== what it shows` and runs on empty
//! servers with new connections, first in RESP2, then in RESP3. Then follow lines, a command each:
//!
//! | line | meaning |
//! | --- | --- |
//! | `SET k "a\x00b"` | quoted as redis-cli does; `{ab*3}` is `ababab`; same bytes |
//! | `[2] GET k` | on a second connection; there are up to 9 |
//! | `~ KEYS *` | the replies' elements may be in another order |
//! | `? TIME` | numbers in the replies may differ |
//! | `! INFO` | what is replied is of no interest |
//! | `> BLPOP k 0` | is sent only; `<` reads the next frame, `<?`, `<~` and `<!` as above |
//! | `differs: why` | the line before is answered otherwise on purpose: that it does is checked |
//! | `resp3: why` | the line before is, in RESP3 only |
//! | `wait 20` | milliseconds |
//! | `# …` | a comment |

use std::time::Duration;

use super::common::{Client, Missing, PATIENCE, Server, Shown, elements, request};

/// The servers to compare: `redis` is right.
pub(crate) struct Pair {
    pub(crate) redis: Server,
    pub(crate) ours: Server,
    /// Whether `differs:` and `resp3:` hold; otherwise these lines must not differ either.
    pub(crate) has_differences: bool,
}

impl Pair {
    /// Redis and corral on its own.
    pub(crate) fn standalone() -> Self {
        Self {
            redis: Server::redis(&[]),
            ours: Server::corral(&[]),
            has_differences: true,
        }
    }

    /// Runs every sentence of a script in both dialects and panics with all that differ.
    pub(crate) fn run(&self, script: &str) {
        let mut found = Vec::new();
        let mut sentences = 0;
        for (title, lines) in sentences_of(script) {
            sentences += 1;
            for dialect in ["2", "3"] {
                let mut session = Session::start(self, dialect);
                for (number, line) in &lines {
                    if let Err(difference) = session.line(line) {
                        found.push(format!(
                            "line {number}, RESP{dialect}, \"{title}\":\n  {difference}"
                        ));
                    }
                }
                if let Err(difference) = session.settle() {
                    found.push(format!("RESP{dialect}, \"{title}\":\n  {difference}"));
                }
            }
        }
        assert!(sentences > 0, "a script has sentences");
        assert!(
            found.is_empty(),
            "{} differences\n{}",
            found.len(),
            found.join("\n")
        );
    }
}

type Lines<'a> = Vec<(usize, &'a str)>;

fn sentences_of(script: &str) -> Vec<(&str, Lines<'_>)> {
    let mut sentences: Vec<(&str, Lines<'_>)> = Vec::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if let Some(title) = line.strip_prefix("== ") {
            sentences.push((title, Vec::new()));
        } else if !line.is_empty() && !line.starts_with('#') {
            let sentence = sentences.last_mut().expect("a script begins with ==");
            sentence.1.push((number + 1, line));
        }
    }
    sentences
}

/// How replies are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Bytes,
    Unordered,
    Shape,
    Not,
}

impl Compared {
    fn split(line: &str) -> (Self, &str) {
        for (mark, compared) in [('~', Self::Unordered), ('?', Self::Shape), ('!', Self::Not)] {
            if let Some(rest) = line.strip_prefix(mark) {
                return (compared, rest.trim_start());
            }
        }
        (Self::Bytes, line)
    }

    fn normal(self, frame: Result<Vec<u8>, Missing>) -> String {
        match (self, frame) {
            (Self::Not, _) => "anything".to_owned(),
            (_, Err(missing)) => format!("{missing:?}"),
            (Self::Bytes, Ok(frame)) => frame.escape_ascii().to_string(),
            (Self::Unordered, Ok(frame)) => sorted(&frame).escape_ascii().to_string(),
            (Self::Shape, Ok(frame)) => shape(&frame),
        }
    }
}

/// The connections of one sentence.
struct Session<'a> {
    pair: &'a Pair,
    dialect: &'a str,
    clients: Vec<Option<(Client, Client)>>,
    /// The difference of the last line, if it is not settled that it is one.
    last: Option<Result<String, String>>,
}

impl<'a> Session<'a> {
    fn start(pair: &'a Pair, dialect: &'a str) -> Self {
        for server in [&pair.redis, &pair.ours] {
            let mut client = server.connect();
            for command in ["CONFIG RESETSTAT", "FLUSHALL", "SCRIPT FLUSH"] {
                client.say(command);
            }
        }
        Self {
            pair,
            dialect,
            clients: (0..10).map(|_| None).collect(),
            last: None,
        }
    }

    /// Runs a line. The difference that is reported is the one of the line before, since only now
    /// it is known not to be intended.
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(why) = line.strip_prefix("differs: ") {
            return self.settle_intended(why);
        }
        if let Some(why) = line.strip_prefix("resp3: ") {
            return if self.dialect == "3" {
                self.settle_intended(why)
            } else {
                Ok(())
            };
        }
        let settled = self.settle();
        if let Some(millis) = line.strip_prefix("wait ") {
            std::thread::sleep(Duration::from_millis(millis.parse().expect("a number")));
            return settled;
        }
        let (client, line) = match line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
        {
            Some((number, line)) => (number.parse().expect("[n]"), line),
            None => (1, line),
        };
        let outcome = if let Some(line) = line.strip_prefix("> ") {
            let request = request(&words(line));
            let (redis, ours) = self.clients(client);
            redis.send(&request);
            ours.send(&request);
            // The order in which two connections are served is theirs alone.
            std::thread::sleep(Duration::from_millis(30));
            None
        } else if let Some(mark) = line.strip_prefix('<') {
            Some(self.compare(client, Compared::split(mark.trim()).0, line))
        } else {
            let (compared, line) = Compared::split(line);
            let words = words(line);
            let (redis, ours) = self.clients(client);
            let request = request(&words);
            redis.send(&request);
            ours.send(&request);
            Some(self.compare(client, compared, &Shown(&words).to_string()))
        };
        self.last = outcome;
        settled
    }

    fn clients(&mut self, number: usize) -> (&mut Client, &mut Client) {
        let (pair, dialect) = (self.pair, self.dialect);
        let (redis, ours) = self.clients[number].get_or_insert_with(|| {
            let connect = |server: &Server| {
                let mut client = server.connect();
                if dialect == "3" {
                    client.say("HELLO 3");
                }
                client
            };
            (connect(&pair.redis), connect(&pair.ours))
        });
        (redis, ours)
    }

    fn compare(&mut self, client: usize, how: Compared, shown: &str) -> Result<String, String> {
        let (redis, ours) = self.clients(client);
        let redis = how.normal(redis.frame_within(PATIENCE));
        let ours = how.normal(ours.frame_within(PATIENCE));
        if redis == ours {
            Ok(shown.to_owned())
        } else {
            Err(format!("{shown}\n    redis: {redis}\n    ours:  {ours}"))
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        self.last.take().map_or(Ok(()), |outcome| outcome.map(drop))
    }

    fn settle_intended(&mut self, why: &str) -> Result<(), String> {
        if !self.pair.has_differences {
            return self.settle();
        }
        match self.last.take() {
            Some(Err(_)) => Ok(()),
            Some(Ok(line)) => Err(format!("{line} does not differ any more: {why}")),
            None => Err(format!("nothing before: {why}")),
        }
    }
}

/// The elements of all aggregates in order.
pub(crate) fn sorted(frame: &[u8]) -> Vec<u8> {
    let Some(elements) = elements(frame) else {
        return frame.to_vec();
    };
    let mut elements: Vec<Vec<u8>> = elements.into_iter().map(sorted).collect();
    elements.sort();
    let head = frame.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    [&frame[..=head], &elements.concat()].concat()
}

/// Every number as `#`.
pub(crate) fn shape(frame: &[u8]) -> String {
    let mut shape = String::new();
    for byte in frame.escape_ascii() {
        if !byte.is_ascii_digit() {
            shape.push(char::from(byte));
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}

/// A command line's words, quoted as redis-cli does, with `{text*count}` repeated.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(first) = bytes.next() {
        match first {
            b' ' => {}
            b'"' => words.push(quoted(&mut bytes)),
            _ => {
                let mut word = vec![first];
                while let Some(byte) = bytes.next_if(|&byte| byte != b' ') {
                    word.push(byte);
                }
                words.push(repeated(word));
            }
        }
    }
    words
}

fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut word = Vec::new();
    let mut next = || bytes.next().expect("a closing quote");
    loop {
        match next() {
            b'"' => return word,
            b'\\' => match next() {
                b'n' => word.push(b'\n'),
                b'r' => word.push(b'\r'),
                b't' => word.push(b'\t'),
                b'x' => {
                    let digits = [next(), next()];
                    let digits = std::str::from_utf8(&digits).expect("hex digits");
                    word.push(u8::from_str_radix(digits, 16).expect("hex digits"));
                }
                other => word.push(other),
            },
            other => word.push(other),
        }
    }
}

fn repeated(word: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&word).ok();
    let inner = text.and_then(|text| text.strip_prefix('{')?.strip_suffix('}'));
    let parts = inner.and_then(|inner| inner.rsplit_once('*'));
    match parts.and_then(|(text, count)| Some((text, count.parse().ok()?))) {
        Some((text, count)) => text.repeat(count).into_bytes(),
        None => word,
    }
}
