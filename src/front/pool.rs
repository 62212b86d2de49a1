//! One I/O thread's shared connections, and its clients.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::ahead::Ahead;
use super::outbox::Outbox;
use super::touch::Touches;
use super::waiting::Waiting;
use super::wire::request_of;
use super::{Front, Letter, Mailbox, Parcel, tags};
use crate::resp::Protocol;
use crate::upstream::own;
use crate::upstream::shared::{Link, Slot};

/// Buffers kept, and what they may hold.
const SPARES_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 4096;

/// What one I/O thread has of the front.
pub struct Pool {
    /// What all threads have.
    pub(super) front: Arc<Front>,
    pub(super) thread: usize,
    resp2: Vec<Rc<Link<Waiting>>>,
    resp3: Vec<Rc<Link<Waiting>>>,
    /// Buffers of values that were delivered.
    spares: RefCell<Vec<Vec<u8>>>,
    /// Private connections for who comes next.
    pub(super) ahead: Arc<Ahead>,
    /// Keys that were hit.
    pub(super) touches: Touches,
    /// Copies that are being compared with upstream.
    pub(super) checks: Cell<usize>,
    outboxes: RefCell<HashMap<u64, Rc<Outbox>, ahash::RandomState>>,
}

impl Pool {
    /// Opens this thread's connections, in tasks of the present `LocalSet`.
    #[must_use]
    pub fn start(front: &Arc<Front>, thread: usize, mailbox: Mailbox) -> Rc<Self> {
        let Mailbox(mut mailbox) = mailbox;
        let each = front.links_per_thread();
        let links = |protocol: Protocol, first: usize| -> Vec<_> {
            let database = front.upstream.url.database;
            let slot = |at| Slot(u16::try_from(first + at).unwrap_or(u16::MAX));
            (0..each)
                .map(|at| Rc::new(Link::new(slot(at), protocol, database)))
                .collect()
        };
        // The tracker is number 0.
        let first = 1 + thread * 2 * each;
        let pool = Rc::new(Self {
            front: Arc::clone(front),
            thread,
            resp2: links(Protocol::Resp2, first),
            resp3: links(Protocol::Resp3, first + each),
            spares: RefCell::default(),
            ahead: Ahead::new(&front.upstream),
            touches: Touches::default(),
            checks: Cell::new(0),
            outboxes: RefCell::default(),
        });
        for (links, at_once) in [(&pool.resp2, true), (&pool.resp3, false)] {
            for link in links {
                front
                    .links
                    .lock()
                    .push((thread, link.protocol(), Arc::clone(link.shown())));
                let (link, front) = (Rc::clone(link), Arc::clone(front));
                tokio::task::spawn_local(async move {
                    let bound = || front.bound();
                    let (upstream, tracker) = (&front.upstream, &front.tracker);
                    link.run(at_once, upstream, tracker, front.as_ref(), bound)
                        .await;
                });
            }
        }
        tokio::task::spawn_local(Rc::clone(&pool).touch());
        if thread == 0 {
            tokio::task::spawn_local(tags::look_after(Rc::clone(&pool)));
        }
        tokio::task::spawn_local(Arc::clone(&pool.ahead).look_after());
        let receiving = Rc::clone(&pool);
        tokio::task::spawn_local(async move {
            while let Some(letter) = mailbox.recv().await {
                match letter {
                    Letter::Parcel(Parcel { seats, reply }) => {
                        for seat in seats {
                            receiving.hand_over(seat, &reply);
                        }
                    }
                    Letter::Settle(settled) => receiving.settle(&settled),
                    Letter::Remove(order) => {
                        tokio::task::spawn_local(Rc::clone(&receiving).remove(order));
                    }
                    Letter::Untag(database, tags, tell) => {
                        let pool = Rc::clone(&receiving);
                        tokio::task::spawn_local(pool.invalidate_tags(database, tags, tell));
                    }
                    Letter::Ask(database, request, tell) => {
                        let asking = Rc::clone(&receiving).ask_for(database, request, tell);
                        tokio::task::spawn_local(asking);
                    }
                }
            }
        });
        pool
    }

    /// A buffer for a value.
    pub(super) fn spare(&self) -> Vec<u8> {
        self.spares.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back, if it is worth keeping.
    pub(super) fn give_back(&self, mut value: Vec<u8>) {
        let mut spares = self.spares.borrow_mut();
        if spares.len() < SPARES_MAX && value.capacity() <= SPARE_BYTES_MAX {
            value.clear();
            spares.push(value);
        }
    }

    /// The connection of a client: always the same, so that its order holds.
    pub(super) fn link(&self, protocol: Protocol, client: u64) -> &Rc<Link<Waiting>> {
        let links = match protocol {
            Protocol::Resp2 => &self.resp2,
            Protocol::Resp3 => &self.resp3,
        };
        let threads = self.front.mailboxes.len() as u64;
        let at = (client / threads) % links.len() as u64;
        &links[usize::try_from(at).unwrap_or(0)]
    }

    /// Drops what is given when all that is under way now is answered, or lost.
    fn settle(&self, settled: &mpsc::Sender<()>) {
        let ping = request_of(&[own::PING]);
        for link in self.resp2.iter().chain(&self.resp3) {
            if link.waiting() > 0 {
                link.send_anywhere(&ping, Waiting::Settled(settled.clone()));
            }
        }
    }

    /// A connection that is up.
    pub(super) fn any_link(&self) -> Option<&Rc<Link<Waiting>>> {
        let mut links = self.resp2.iter().chain(&self.resp3);
        links.find(|link| link.shown().state() == "open" && !link.shown().is_down())
    }

    /// Takes a client in; it must leave again.
    pub(super) fn join(&self, client: u64) -> Rc<Outbox> {
        let outbox = Rc::new(Outbox::default());
        self.outboxes
            .borrow_mut()
            .insert(client, Rc::clone(&outbox));
        outbox
    }

    /// A client has gone.
    pub(super) fn leave(&self, client: u64) {
        if let Some(outbox) = self.outboxes.borrow_mut().remove(&client) {
            outbox.close();
        }
    }

    pub(super) fn outbox(&self, client: u64) -> Option<Rc<Outbox>> {
        self.outboxes.borrow().get(&client).cloned()
    }
}
