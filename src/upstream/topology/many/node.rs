//! The part of a [`Many`] that is one master's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::Sleep;

use super::{Many, OUTPUT_BYTES_MAX};
use crate::resp::frame::{FrameScanner, Kind};
use crate::upstream::buffer::Buffer;
use crate::upstream::connect::{Cause, ConnectError, Connection, Opening, introduce};
use crate::upstream::own;
use crate::upstream::url::Endpoint;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long until a tracking connection tries again to reach a master.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, Cause>> + Send>>;

/// What masters were told by `CLIENT TRACKING`, and those that come are told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Nothing,
    /// To tell changes to this tracking connection of ours.
    Redirect(u64),
    /// Something else.
    Track(Vec<u8>),
}

/// Who waits for a reply of a master.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    Part {
        at: u64,
        part: usize,
    },
    Nobody,
    /// The master's number for a tracking connection.
    Number,
}

enum Link {
    /// To be connected to.
    New,
    Connecting(Connecting),
    Open(Box<dyn Connection>),
    /// It could not be connected to.
    Resting(Pin<Box<Sleep>>),
}

/// One master.
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    link: Link,
    requests: Buffer,
    is_unflushed: bool,
    waiting: std::collections::VecDeque<Expect>,
    replies: Buffer,
    scanner: FrameScanner,
    /// What came of the present frame.
    frame: Vec<u8>,
}

impl Node {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            link: Link::New,
            requests: Buffer::default(),
            is_unflushed: false,
            waiting: std::collections::VecDeque::new(),
            replies: Buffer::default(),
            scanner: FrameScanner::new(),
            frame: Vec::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Sends bytes of which nobody counts the replies.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.requests.extend(bytes);
    }

    pub(super) fn ask(&mut self, request: &[u8], expect: Expect) {
        self.requests.extend(request);
        self.waiting.push_back(expect);
    }

    /// Writes what is to be written. An error is told by the read.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let Link::Open(connection) = &mut self.link else {
            return false;
        };
        let mut moved = false;
        while !self.requests.is_empty() {
            let len = self.requests.len();
            match self.requests.poll_drain(context, connection.as_mut(), len) {
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
            self.is_unflushed = true;
        }
        if self.is_unflushed
            && let Poll::Ready(flushed) = Pin::new(connection).poll_flush(context)
        {
            self.is_unflushed = flushed.is_err();
        }
        moved
    }
}

impl Many {
    /// A master, which is connected to if it is not yet.
    pub(super) fn node(&mut self, endpoint: &Endpoint) -> &mut Node {
        let found = self
            .nodes
            .iter()
            .position(|node| node.endpoint == *endpoint);
        let at = found.unwrap_or_else(|| {
            self.nodes.push(Node::new(endpoint.clone()));
            self.nodes.len() - 1
        });
        &mut self.nodes[at]
    }

    /// A tracking connection is connected to all masters there are, once it speaks RESP3. Looked
    /// at with each of its heartbeats.
    pub(super) fn follow_masters(&mut self) -> bool {
        if self.tracker.is_none() || !self.is_resp3 {
            return false;
        }
        let (_, map) = self.cluster.map();
        let count = self.nodes.len();
        for master in map.iter().flat_map(|map| map.masters()) {
            self.node(master);
        }
        self.nodes.len() > count
    }

    pub(super) fn drive_node(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        match &mut self.nodes[at].link {
            Link::New => {
                let connecting = self.connecting(self.nodes[at].endpoint.clone());
                self.nodes[at].link = Link::Connecting(connecting);
                true
            }
            Link::Connecting(connecting) => match connecting.as_mut().poll(context) {
                Poll::Pending => false,
                Poll::Ready(Ok(connection)) => {
                    let is_tracker = self.tracker.is_some();
                    let node = &mut self.nodes[at];
                    node.link = Link::Open(connection);
                    if is_tracker {
                        let id = Opening::new("CLIENT ID", &[own::CLIENT, b"ID"]);
                        // What waits was put in before.
                        node.ask(&id.bytes, Expect::Number);
                    }
                    true
                }
                Poll::Ready(Err(cause)) => {
                    self.fail(at, cause);
                    true
                }
            },
            Link::Resting(rest) => {
                let is_over = rest.as_mut().poll(context).is_ready();
                if is_over {
                    self.nodes[at].link = Link::New;
                }
                is_over
            }
            Link::Open(_) => {
                let wrote = self.nodes[at].write(context);
                self.read(at, context) || wrote
            }
        }
    }

    /// Connects, and tells all that this connection was told before.
    fn connecting(&self, endpoint: Endpoint) -> Connecting {
        let (cluster, timeout, told) = (Arc::clone(&self.cluster), self.timeout, self.told.clone());
        let is_tracker = self.tracker.is_some();
        let mut openings = self.session.openings();
        if let Told::Track(request) = &told {
            openings.push(Opening {
                name: "CLIENT TRACKING",
                bytes: request.clone(),
            });
        }
        let connecting = async move {
            let mut connection = cluster.connect(&endpoint, &openings).await?;
            if is_tracker {
                return Ok(connection);
            }
            // What is read there would not be told of before.
            cluster.tracked(&endpoint).await;
            if let Told::Redirect(number) = told
                && let Some(theirs) = cluster.tracker_there(number, &endpoint).await
            {
                let redirect = [Opening::redirect_to(theirs, false)];
                introduce(&mut connection, &redirect).await?;
            }
            Ok(connection)
        };
        Box::pin(async move {
            let connected = tokio::time::timeout(timeout, connecting).await;
            connected.unwrap_or(Err(Cause::TimedOut(timeout)))
        })
    }

    /// A master cannot be connected to.
    fn fail(&mut self, at: usize, cause: Cause) {
        self.cluster.suspect();
        let mut node = self.nodes.swap_remove(at);
        let endpoint = node.endpoint.clone();
        let why = ConnectError::new(endpoint.to_string(), cause).to_string();
        if self.wire.as_ref() == Some(&endpoint) || self.transaction.is_at(&endpoint) {
            self.lost = Some(why);
            return;
        }
        let waiting = std::mem::take(&mut node.waiting);
        if self.tracker.is_some() {
            node.requests = Buffer::default();
            let rest = tokio::time::sleep(TRY_AGAIN_AFTER);
            node.link = Link::Resting(Box::pin(rest));
            self.nodes.push(node);
        }
        let error = format!("-ERR upstream {}\r\n", why.replace(['\r', '\n'], " "));
        for expect in waiting {
            if let Expect::Part { at, part } = expect {
                self.fail_part(at, part, &endpoint, error.as_bytes());
            }
        }
    }

    /// Another master is asked where any would do, until all were.
    fn fail_part(&mut self, at: u64, part: usize, endpoint: &Endpoint, error: &[u8]) {
        let masters = self.map.masters().to_vec();
        let Some(owed) = self.owed_at(at) else { return };
        let tried = &mut owed.parts[part];
        let tried_all = usize::from(tried.hops) + 1 >= masters.len();
        if tried.is_any && !tried_all {
            tried.hops += 1;
            let present = masters.iter().position(|master| master == endpoint);
            let next = present.map_or(0, |present| (present + 1) % masters.len());
            return self.send(at, part, &masters[next]);
        }
        if tried.is_any {
            self.lost = Some("has no master that can be reached".to_owned());
            return;
        }
        self.settle(endpoint, at, part, error.to_vec(), Kind::Error);
    }

    /// Reads what a master says, if there is room.
    fn read(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        if self.output.len() >= OUTPUT_BYTES_MAX {
            return false;
        }
        let node = &mut self.nodes[at];
        let Link::Open(connection) = &mut node.link else {
            return false;
        };
        let read = node
            .replies
            .poll_fill(context, connection.as_mut(), READ_BYTES);
        let why = match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => "closed the connection".to_owned(),
            Poll::Ready(Ok(_)) if self.wire.is_some() => {
                self.output.extend(node.replies.bytes());
                node.replies.consume(node.replies.len());
                return true;
            }
            Poll::Ready(Ok(_)) => match self.take_replies(at) {
                Ok(()) => return true,
                Err(why) => why,
            },
            Poll::Ready(Err(error)) => format!("broke the connection: {error}"),
        };
        self.cluster.suspect();
        self.lost = Some(format!("{} {why}", self.nodes[at].endpoint));
        true
    }

    fn take_replies(&mut self, at: usize) -> Result<(), String> {
        let endpoint = self.nodes[at].endpoint.clone();
        let replies = std::mem::take(&mut self.nodes[at].replies);
        let mut rest = replies.bytes();
        while !rest.is_empty() {
            // Redirections may have changed the list.
            let Some(node) = self.nodes.iter_mut().find(|node| node.endpoint == endpoint) else {
                return Ok(());
            };
            let scan = node.scanner.scan(rest).map_err(|error| error.to_string())?;
            node.frame.extend_from_slice(&rest[..scan.len]);
            rest = &rest[scan.len..];
            let Some(kind) = scan.ended else { continue };
            let frame = std::mem::take(&mut node.frame);
            if kind == Kind::Push {
                self.output.extend(&frame);
                continue;
            }
            match node.waiting.pop_front() {
                Some(Expect::Part { at, part }) => self.settle(&endpoint, at, part, frame, kind),
                Some(Expect::Nobody) => {}
                Some(Expect::Number) => self.note_number(&endpoint, &frame)?,
                None => return Err("answers what was not asked".to_owned()),
            }
        }
        let mut replies = replies;
        replies.consume(replies.len());
        if let Some(node) = self.nodes.iter_mut().find(|node| node.endpoint == endpoint) {
            node.replies = replies;
        }
        Ok(())
    }

    fn note_number(&self, endpoint: &Endpoint, reply: &[u8]) -> Result<(), String> {
        let digits = reply.strip_prefix(b":").map(<[u8]>::trim_ascii_end);
        let theirs = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let theirs = theirs.ok_or("does not tell its CLIENT ID")?;
        if let Some(number) = self.tracker {
            self.cluster.note_tracker(number, endpoint.clone(), theirs);
        }
        Ok(())
    }
}
