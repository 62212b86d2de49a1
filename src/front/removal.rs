//! Keys that something outside knows to have changed: removed upstream, by the front itself.
//!
//! As with any write, copies and what is under way for a key are void when its removal begins and
//! again when it was answered. Rules that write through are no matter here: the origin knows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::oneshot;

use super::pool::Pool;
use super::waiting::Waiting;
use super::wire::request_of;
use super::{Front, Letter, tags};
use crate::near::Why;
use crate::resp::frame::Kind;
use crate::upstream::own;
use crate::upstream::shared::Link;

/// How many of them were there, or why that is not known of all of them.
pub(super) type Removed = Result<usize, String>;

/// What is sent to an I/O thread for it.
pub(super) struct Order {
    pub(super) database: u32,
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) tell: oneshot::Sender<Removed>,
}

/// What an error reply says.
fn error_of(reply: &[u8]) -> String {
    let error = String::from_utf8_lossy(reply);
    error.trim_start_matches('-').trim().to_owned()
}

/// Removals that were ordered together.
struct Together {
    left: Cell<usize>,
    removed: Cell<usize>,
    failed: RefCell<Option<String>>,
    tell: Cell<Option<oneshot::Sender<Removed>>>,
}

/// One of them on its way.
pub(super) struct Removing {
    pool: Rc<Pool>,
    key: Box<[u8]>,
    reply: Vec<u8>,
    together: Rc<Together>,
}

impl Front {
    /// Has an I/O thread do what this letter says. Nobody answers where there is none any more.
    pub(super) fn order(&self, letter: Letter) {
        if let Some(mailbox) = self.mailboxes.first() {
            // Who asked sees that it was dropped.
            let _ = mailbox.send(letter);
        }
    }
}

impl Pool {
    pub(super) async fn remove(self: Rc<Self>, order: Order) {
        let Order {
            database,
            keys,
            tell,
        } = order;
        for key in &keys {
            self.front.void(key, Why::WriteStart);
        }
        let link = match self.link_to(database).await {
            Ok(link) if !keys.is_empty() => link,
            other => {
                // Who asked may be gone.
                let _ = tell.send(other.map(|_| 0));
                return;
            }
        };
        let together = Rc::new(Together {
            left: Cell::new(keys.len()),
            removed: Cell::new(0),
            failed: RefCell::default(),
            tell: Cell::new(Some(tell)),
        });
        if self.front.tags.are_used() && !self.front.upstream.is_cluster() {
            link.send(database, &tags::untag(&keys), Waiting::Nobody);
        }
        for key in keys {
            let request = request_of(&[b"UNLINK", &key]);
            let removing = Removing {
                pool: Rc::clone(&self),
                key,
                reply: Vec::new(),
                together: Rc::clone(&together),
            };
            link.send(database, &request, Waiting::Removes(Box::new(removing)));
        }
    }

    /// Removes the keys of tags, as `TAG.INVALIDATE` does it.
    pub(super) async fn invalidate_tags(
        self: Rc<Self>,
        database: u32,
        tags: Vec<Box<[u8]>>,
        tell: oneshot::Sender<Removed>,
    ) {
        let is_cluster = self.front.upstream.is_cluster();
        let removed = match self.link_to(database).await {
            Ok(link) => tags::remove_tagged(&link, (is_cluster, database), &tags)
                .await
                .map(|removed| usize::try_from(removed).unwrap_or(usize::MAX))
                .map_err(|reply| error_of(&reply)),
            Err(why) => Err(why),
        };
        self.front.settle_write().await;
        // Who asked may be gone.
        let _ = tell.send(removed);
    }

    /// Asks upstream, for somebody on another thread.
    pub(super) async fn ask_for(
        self: Rc<Self>,
        database: u32,
        request: Vec<u8>,
        tell: oneshot::Sender<Vec<u8>>,
    ) {
        if let Ok(link) = self.link_to(database).await {
            let asked = Waiting::Asked(Vec::new(), Some(tell));
            link.send(database, &request, asked);
        }
    }

    /// A connection whose upstream has this database: a request behind a SELECT that failed would
    /// be run in another one.
    async fn link_to(&self, database: u32) -> Result<Rc<Link<Waiting>>, String> {
        let unconnected = || "upstream is not connected".to_owned();
        let link = self.any_link().map(Rc::clone).ok_or_else(unconnected)?;
        if self.front.has_database(database) {
            return Ok(link);
        }
        let select = request_of(&[own::SELECT, database.to_string().as_bytes()]);
        let (tell, told) = oneshot::channel();
        link.send_select(&select, Waiting::Asked(Vec::new(), Some(tell)));
        let reply = told.await.map_err(|_| unconnected())?;
        if !reply.starts_with(b"+") {
            return Err(error_of(&reply));
        }
        self.front.note_database(database);
        Ok(link)
    }
}

impl Together {
    fn tell(&self) {
        if let Some(tell) = self.tell.take() {
            let failed = self.failed.take();
            // Who asked may be gone.
            let _ = tell.send(failed.map_or_else(|| Ok(self.removed.get()), Err));
        }
    }
}

impl Removing {
    /// Takes a part of the reply.
    pub(super) fn take(&mut self, bytes: &[u8], ended: Option<Kind>) {
        self.reply.extend_from_slice(bytes);
        if ended.is_none() {
            return;
        }
        if self.reply.starts_with(b":1") {
            let removed = &self.together.removed;
            removed.set(removed.get() + 1);
        } else if self.reply.first() != Some(&b':') {
            self.fail(error_of(&self.reply));
        }
        self.end();
    }

    /// It may have been run all the same.
    pub(super) fn lose(self, why: &str) {
        self.fail(format!("upstream {why}"));
        self.end();
    }

    fn fail(&self, why: String) {
        self.together.failed.borrow_mut().get_or_insert(why);
    }

    fn end(&self) {
        self.pool.front.void(&self.key, Why::WriteEnd);
        let left = self.together.left.get() - 1;
        self.together.left.set(left);
        if left == 0 {
            self.together.tell();
        }
    }
}
