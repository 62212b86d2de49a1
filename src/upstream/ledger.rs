//! Which replies the upstream owes one client, in order.
//!
//! Plain replies are only counted. What has several replies, or none, or one that means something
//! for the connection has an entry of its own. `SUBSCRIBE` is the hard one: it is confirmed once
//! per channel, by arrays in RESP2 and by pushes in RESP3, among messages of the same shape; so
//! while it matters the first words of frames are looked at, and the number a confirmation ends
//! with.

use std::collections::VecDeque;

use crate::resp::frame::Kind;

use super::session::Change;

/// The three kinds of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Channels,
    Patterns,
    Shards,
}

/// What is owed.
#[derive(Debug)]
pub(super) enum Owed {
    /// So many plain replies.
    Replies(usize),
    /// One that may take for as long as it pleases.
    Blocking,
    /// One that changes the session, if it is no error.
    Change(Box<Change>),
    /// So many confirmations.
    Subscribe(Family, u64),
    /// So many confirmations; `None`, as many as there are subscriptions, but at least one.
    Unsubscribe(Family, Option<u64>),
    /// One, behind which replies end and a stream begins.
    Monitor,
    /// No reply: a stream begins here.
    Stream,
    /// One, behind which the session is a new one.
    Reset,
    /// One, behind which the connection ends.
    Quit,
    /// One, if it failed; else the connection ends.
    Shutdown,
}

/// What a frame turned out to be.
#[derive(Debug)]
pub(super) enum Settled {
    /// A push, a message, or one of several confirmations.
    Unasked,
    /// A reply that was owed, and nothing more.
    Reply,
    /// A reply that makes a change of the session true.
    Changed(Box<Change>),
    /// The reply behind which a stream begins.
    StreamBegins,
    /// The same, of `MONITOR`.
    MonitorBegins,
    /// The reply to `RESET`.
    Reset,
    /// The reply to `QUIT`.
    Quit,
    /// A reply that nobody is owed: we have lost count.
    Unexpected,
}

/// The replies owed, and the subscriptions that make messages come unasked.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    queue: VecDeque<Owed>,
    /// Entries of the queue, each plain reply counted.
    len: usize,
    /// The same of all that was ever owed: the number of the last.
    last: usize,
    channels: u64,
    patterns: u64,
    shards: u64,
}

impl Ledger {
    /// Replies owed; what is confirmed many times counts once.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of what was owed last. Numbers begin with 1, and anew when all is written off.
    pub(super) fn last(&self) -> usize {
        self.last
    }

    /// The number of what was settled last.
    pub(super) fn settled(&self) -> usize {
        self.last - self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Owes one plain reply more.
    pub(super) fn owe_reply(&mut self) {
        self.len += 1;
        self.last += 1;
        if let Some(Owed::Replies(run)) = self.queue.back_mut() {
            *run += 1;
        } else {
            self.queue.push_back(Owed::Replies(1));
        }
    }

    /// Owes something else than plain replies.
    pub(super) fn owe(&mut self, owed: Owed) {
        self.len += 1;
        self.last += 1;
        self.queue.push_back(owed);
    }

    /// What is owed next.
    pub(super) fn next(&self) -> Option<&Owed> {
        self.queue.front()
    }

    /// Whether there are subscriptions.
    pub(super) fn is_subscribed(&self) -> bool {
        self.channels + self.patterns + self.shards > 0
    }

    /// Whether losing the connection now would change what the client's next requests mean,
    /// even if every reply owed becomes an error.
    pub(super) fn is_bound(&self) -> bool {
        self.is_subscribed()
            || self.queue.iter().any(|owed| match owed {
                Owed::Replies(_) | Owed::Quit | Owed::Shutdown => false,
                Owed::Change(change) => change.is_binding(),
                Owed::Blocking
                | Owed::Subscribe(..)
                | Owed::Unsubscribe(..)
                | Owed::Monitor
                | Owed::Stream
                | Owed::Reset => true,
            })
    }

    /// Whether the words of the next frame matter.
    pub(super) fn is_curious(&self) -> bool {
        self.is_subscribed()
            || matches!(
                self.next(),
                Some(Owed::Subscribe(..) | Owed::Unsubscribe(..))
            )
    }

    /// Strikes what a finished frame settles. `words`: of the frame, if they were wanted.
    pub(super) fn settle(&mut self, kind: Kind, words: Option<&Words>) -> Settled {
        if let Some(Owed::Replies(run)) = self.queue.front_mut()
            && words.is_none()
            && kind != Kind::Push
        {
            *run -= 1;
            if *run == 0 {
                self.queue.pop_front();
            }
            self.len -= 1;
            return Settled::Reply;
        }
        match words.and_then(Words::meaning) {
            Some(Meaning::Message) => return Settled::Unasked,
            Some(Meaning::Confirmed { family, on, total }) => {
                return self.confirmed(family, on, total);
            }
            None => {}
        }
        if kind == Kind::Push {
            return Settled::Unasked;
        }
        self.answered(kind)
    }

    /// Everything owed up to a stream, as so many replies; the ledger is new afterwards.
    pub(super) fn write_off(&mut self) -> WrittenOff {
        let old = std::mem::take(self);
        let mut written_off = WrittenOff::default();
        for owed in old.queue {
            match owed {
                Owed::Replies(run) => written_off.errors += run,
                Owed::Stream => return written_off,
                Owed::Quit => {
                    written_off.quit = true;
                    return written_off;
                }
                Owed::Shutdown => {
                    written_off.shut_down = true;
                    return written_off;
                }
                Owed::Blocking
                | Owed::Change(_)
                | Owed::Subscribe(..)
                | Owed::Unsubscribe(..)
                | Owed::Monitor
                | Owed::Reset => written_off.errors += 1,
            }
        }
        written_off
    }

    /// One confirmation, which may be one of many.
    fn confirmed(&mut self, family: Family, on: bool, total: u64) -> Settled {
        let before = self.subscriptions(family);
        // Channels and patterns are reported as one number.
        match family {
            Family::Channels => self.channels = total.saturating_sub(self.patterns),
            Family::Patterns => self.patterns = total.saturating_sub(self.channels),
            Family::Shards => self.shards = total,
        }
        let left = match self.queue.front_mut() {
            Some(Owed::Subscribe(owed, left)) if on && *owed == family => left,
            Some(Owed::Unsubscribe(owed, left)) if !on && *owed == family => {
                left.get_or_insert(before.max(1))
            }
            // A shard's channels are taken away when its slot moves.
            Some(_) | None => return Settled::Unasked,
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Settled::Unasked;
        }
        self.queue.pop_front();
        self.len -= 1;
        Settled::Reply
    }

    /// A frame that is the whole answer to what is owed next.
    fn answered(&mut self, kind: Kind) -> Settled {
        let Some(owed) = self.queue.pop_front() else {
            return Settled::Unexpected;
        };
        self.len -= 1;
        match owed {
            Owed::Replies(run) => {
                if run > 1 {
                    self.queue.push_front(Owed::Replies(run - 1));
                }
                Settled::Reply
            }
            Owed::Change(change) if kind == Kind::Reply => Settled::Changed(change),
            Owed::Monitor if kind == Kind::Reply => Settled::MonitorBegins,
            Owed::Reset if kind == Kind::Reply => {
                self.channels = 0;
                self.patterns = 0;
                self.shards = 0;
                Settled::Reset
            }
            Owed::Quit => Settled::Quit,
            Owed::Subscribe(..) | Owed::Unsubscribe(..) if kind == Kind::Reply => {
                Settled::Unexpected
            }
            Owed::Stream => Settled::StreamBegins,
            Owed::Blocking
            | Owed::Change(_)
            | Owed::Subscribe(..)
            | Owed::Unsubscribe(..)
            | Owed::Monitor
            | Owed::Reset
            | Owed::Shutdown => Settled::Reply,
        }
    }

    fn subscriptions(&self, family: Family) -> u64 {
        match family {
            Family::Channels => self.channels,
            Family::Patterns => self.patterns,
            Family::Shards => self.shards,
        }
    }
}

/// What was owed by a connection that is lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenOff {
    /// So many replies become errors.
    pub(super) errors: usize,
    /// Then there was a `QUIT`: what it asked for has come about.
    pub(super) quit: bool,
    /// Then there was a `SHUTDOWN`: so has that.
    pub(super) shut_down: bool,
}

/// The beginning and the end of a frame.
#[derive(Debug, Default)]
pub(super) struct Words {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    tail: [u8; TAIL_BYTES],
    tail_len: usize,
}

/// `*3`, a line end, `$12`, a line end, `punsubscribe`, a line end, and some.
const HEAD_BYTES: usize = 32;

/// A colon, twenty digits, a line end; and the one in front of it.
const TAIL_BYTES: usize = 25;

/// What the words of a frame say.
enum Meaning {
    Message,
    Confirmed {
        family: Family,
        on: bool,
        total: u64,
    },
}

impl Words {
    /// Takes in the next bytes of the frame.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let more = bytes.len().min(HEAD_BYTES - self.head_len);
        self.head[self.head_len..self.head_len + more].copy_from_slice(&bytes[..more]);
        self.head_len += more;
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let kept = self.tail_len.min(TAIL_BYTES - new.len());
        self.tail
            .copy_within(self.tail_len - kept..self.tail_len, 0);
        self.tail[kept..kept + new.len()].copy_from_slice(new);
        self.tail_len = kept + new.len();
    }

    fn meaning(&self) -> Option<Meaning> {
        let (family, on) = match self.first_word()? {
            b"message" | b"pmessage" | b"smessage" => return Some(Meaning::Message),
            b"subscribe" => (Family::Channels, true),
            b"psubscribe" => (Family::Patterns, true),
            b"ssubscribe" => (Family::Shards, true),
            b"unsubscribe" => (Family::Channels, false),
            b"punsubscribe" => (Family::Patterns, false),
            b"sunsubscribe" => (Family::Shards, false),
            _ => return None,
        };
        let tail = self.tail[..self.tail_len].strip_suffix(b"\r\n")?;
        let colon = memchr::memrchr(b':', tail)?;
        let total = std::str::from_utf8(&tail[colon + 1..]).ok()?.parse().ok()?;
        Some(Meaning::Confirmed { family, on, total })
    }

    /// The bulk string that an array or a push begins with.
    fn first_word(&self) -> Option<&[u8]> {
        let head = &self.head[..self.head_len];
        if !matches!(head.first(), Some(b'*' | b'>')) {
            return None;
        }
        let mut lines = head.split(|&byte| byte == b'\n');
        let _count = lines.next()?;
        let length = lines.next()?;
        let word = lines.next()?;
        (length.first() == Some(&b'$')).then(|| word.strip_suffix(b"\r"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(frame: &str, piece: usize) -> Words {
        let mut words = Words::default();
        frame
            .as_bytes()
            .chunks(piece)
            .for_each(|bytes| words.take(bytes));
        words
    }

    fn frame(word: &str, channel: &str, total: u64) -> String {
        let (len, of) = (word.len(), channel.len());
        format!("*3\r\n${len}\r\n{word}\r\n${of}\r\n{channel}\r\n:{total}\r\n")
    }

    /// Settles a frame, as one that words are wanted of if they are.
    fn settle(ledger: &mut Ledger, frame: &str) -> Settled {
        let kind = if frame.starts_with('-') {
            Kind::Error
        } else {
            Kind::Reply
        };
        let words = ledger.is_curious().then(|| words(frame, 1000));
        ledger.settle(kind, words.as_ref())
    }

    #[test]
    fn the_words_of_a_frame_are_found_however_it_is_split() {
        let channel = "x".repeat(300);
        for piece in 1..400 {
            let words = words(&frame("punsubscribe", &channel, 12_345), piece);
            let Some(Meaning::Confirmed { family, on, total }) = words.meaning() else {
                panic!("no confirmation in pieces of {piece}");
            };
            assert_eq!((family, on, total), (Family::Patterns, false, 12_345));
        }
    }

    #[test]
    fn other_frames_have_no_meaning() {
        for frame in [
            "+subscribe\r\n",
            ":1\r\n",
            "*0\r\n",
            "*1\r\n:1\r\n",
            "$9\r\nsubscribe\r\n",
        ] {
            assert!(words(frame, 3).meaning().is_none(), "{frame}");
        }
        let nested = "*1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        assert!(words(nested, 3).meaning().is_none());
    }

    #[test]
    fn plain_replies_are_counted() {
        let mut ledger = Ledger::default();
        ledger.owe_reply();
        ledger.owe_reply();
        ledger.owe(Owed::Blocking);
        ledger.owe_reply();
        assert_eq!(ledger.len(), 4);
        for left in [3, 2, 1, 0] {
            assert!(matches!(ledger.settle(Kind::Push, None), Settled::Unasked));
            assert!(matches!(settle(&mut ledger, "+a\r\n"), Settled::Reply));
            assert_eq!(ledger.len(), left);
        }
        assert!(ledger.is_empty());
        assert!(matches!(settle(&mut ledger, "+a\r\n"), Settled::Unexpected));
    }

    #[test]
    fn unsubscribing_from_all_is_confirmed_as_often_as_there_are_channels() {
        let mut ledger = Ledger::default();
        ledger.owe(Owed::Subscribe(Family::Channels, 3));
        ledger.owe(Owed::Subscribe(Family::Patterns, 1));
        ledger.owe(Owed::Unsubscribe(Family::Channels, None));
        ledger.owe(Owed::Unsubscribe(Family::Channels, None));
        ledger.owe_reply();
        for (word, total, left) in [
            ("subscribe", 1, 5),
            ("subscribe", 2, 5),
            ("subscribe", 2, 4),
            ("psubscribe", 3, 3),
            ("unsubscribe", 2, 3),
            ("unsubscribe", 1, 2),
            ("unsubscribe", 1, 1),
        ] {
            settle(&mut ledger, &frame(word, "c", total));
            assert_eq!(ledger.len(), left, "{word} {total}");
            assert!(ledger.is_subscribed());
        }
        ledger.owe(Owed::Unsubscribe(Family::Patterns, None));
        assert!(matches!(settle(&mut ledger, "+PONG\r\n"), Settled::Reply));
        assert!(matches!(
            settle(&mut ledger, &frame("punsubscribe", "c", 0)),
            Settled::Reply
        ));
        assert!(ledger.is_empty() && !ledger.is_subscribed());
    }

    #[test]
    fn an_error_is_the_whole_answer_to_a_subscription() {
        let mut ledger = Ledger::default();
        ledger.owe(Owed::Subscribe(Family::Shards, 3));
        ledger.owe_reply();
        assert!(matches!(settle(&mut ledger, "-NOPERM\r\n"), Settled::Reply));
        assert!(matches!(settle(&mut ledger, "+a\r\n"), Settled::Reply));
        assert!(!ledger.is_bound());
    }

    #[test]
    fn a_shards_channel_may_be_taken_away_unasked() {
        let mut ledger = Ledger::default();
        ledger.owe(Owed::Subscribe(Family::Shards, 1));
        settle(&mut ledger, &frame("ssubscribe", "c", 1));
        assert!(matches!(
            settle(&mut ledger, &frame("sunsubscribe", "c", 0)),
            Settled::Unasked
        ));
        assert!(!ledger.is_subscribed());
    }

    #[test]
    fn what_is_owed_up_to_a_quit_or_a_stream_is_written_off() {
        let mut ledger = Ledger::default();
        ledger.owe_reply();
        ledger.owe_reply();
        ledger.owe(Owed::Blocking);
        ledger.owe(Owed::Quit);
        let written_off = ledger.write_off();
        assert_eq!((written_off.errors, written_off.quit), (3, true));
        assert!(ledger.is_empty());
        ledger.owe(Owed::Stream);
        ledger.owe_reply();
        assert_eq!(ledger.write_off(), WrittenOff::default());
    }
}
