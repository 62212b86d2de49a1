//! The list of counters: name, meaning, and who counts them up.
//!
//! One list, everything derived: the counter itself, its sum over all threads ([`Counts`]), what
//! it was at the last `CONFIG RESETSTAT`, and its place among the metrics of the admin port.

use parking_lot::Mutex;

use super::process::resident_bytes;
use super::{COMMAND_COUNT, CommandMetrics, Counter, Errors, Peak, Rates, Snapshot};

/// Declares [`ThreadMetrics`], [`Metrics`] and [`Counts`] from one row for each counter. `thread`
/// counters are written by one I/O thread, `shared` ones by all, and `store` ones are counted
/// elsewhere and told when asked for.
macro_rules! counters {
    (
        thread { $( $(#[doc = $thread_doc:literal])+ $thread:ident: $thread_name:literal; )+ }
        shared { $( $(#[doc = $shared_doc:literal])+ $shared:ident: $shared_name:literal; )+ }
        store { $( $(#[doc = $store_doc:literal])+ $store:ident: $store_name:literal; )+ }
    ) => {
        /// What one thread counts.
        #[derive(Debug)]
        pub struct ThreadMetrics {
            /// By the command's index.
            pub commands: Box<[CommandMetrics]>,
            $( $(#[doc = $thread_doc])+ pub $thread: Counter, )+
        }

        impl ThreadMetrics {
            fn new() -> Self {
                Self {
                    commands: (0..COMMAND_COUNT).map(|_| CommandMetrics::default()).collect(),
                    $( $thread: Counter::default(), )+
                }
            }
        }

        /// Everything that is counted.
        #[derive(Debug)]
        pub struct Metrics {
            /// One for each I/O thread.
            pub threads: Box<[ThreadMetrics]>,
            $( $(#[doc = $shared_doc])+ pub $shared: Counter, )+
            /// Error replies by their code.
            pub errors: Errors,
            /// How fast some counters rise.
            pub rates: Rates,
            /// The most memory that was ever in use.
            pub peak: Peak,
            /// Bytes that the process had in RAM before there were any keys.
            pub startup_bytes: usize,
            /// What everything was at the last `CONFIG RESETSTAT`.
            pub(super) baseline: Mutex<Snapshot>,
        }

        impl Metrics {
            /// Counters for this many I/O threads.
            #[must_use]
            pub fn new(threads: usize) -> Self {
                Self {
                    threads: (0..threads).map(|_| ThreadMetrics::new()).collect(),
                    $( $shared: Counter::default(), )+
                    errors: Errors::default(),
                    rates: Rates::default(),
                    peak: Peak::default(),
                    startup_bytes: resident_bytes(),
                    baseline: Mutex::default(),
                }
            }

            /// All counters at this moment; those of the store come from `departures`.
            #[must_use]
            pub fn counts(&self, departures: Departures) -> Counts {
                let mut counts = Counts {
                    $( $thread: self.sum(|thread| &thread.$thread), )+
                    $( $shared: self.$shared.value(), )+
                    $( $store: departures.$store, )+
                };
                counts.hits += departures.near_hits;
                counts.misses += departures.near_misses;
                counts
            }
        }

        /// What is counted elsewhere: how many items left the store without being asked to, and
        /// what became of reads that a near cache was asked for.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Departures {
            $( $(#[doc = $store_doc])+ pub $store: u64, )+
            /// Reads that a near cache answered.
            pub near_hits: u64,
            /// Reads that it did not.
            pub near_misses: u64,
        }

        /// All counters at one moment, threads added up.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts {
            $( $(#[doc = $thread_doc])+ pub $thread: u64, )+
            $( $(#[doc = $shared_doc])+ pub $shared: u64, )+
            $( $(#[doc = $store_doc])+ pub $store: u64, )+
        }

        impl Counts {
            pub(super) fn subtract(&mut self, before: &Self) {
                $( self.$thread = self.$thread.saturating_sub(before.$thread); )+
                $( self.$shared = self.$shared.saturating_sub(before.$shared); )+
                $( self.$store = self.$store.saturating_sub(before.$store); )+
            }

            /// Each counter with its name, without `_total`, and its meaning.
            pub fn named(&self) -> impl Iterator<Item = Named> + use<> {
                [
                    $( Named {
                        name: $thread_name, help: concat!($($thread_doc),+), value: self.$thread,
                    }, )+
                    $( Named {
                        name: $shared_name, help: concat!($($shared_doc),+), value: self.$shared,
                    }, )+
                    $( Named {
                        name: $store_name, help: concat!($($store_doc),+), value: self.$store,
                    }, )+
                ]
                .into_iter()
            }
        }
    };
}

/// A counter as the admin port shows it.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Behind `corral_`, before `_total`.
    pub name: &'static str,
    /// What it counts: a sentence with a space before it.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

counters! {
    thread {
        /// Reads that found their key.
        hits: "keyspace_hits";
        /// Reads that did not.
        misses: "keyspace_misses";
        /// Keys that commands wrote, changed or removed.
        changes: "keyspace_changes";
        /// Requests run.
        requests: "requests";
        /// Bytes from clients.
        bytes_in: "received_bytes";
        /// Bytes to clients.
        bytes_out: "sent_bytes";
        /// Connections accepted.
        connections: "connections";
        /// Times a socket was read.
        reads: "socket_reads";
        /// Times a socket was written.
        writes: "socket_writes";
    }
    shared {
        /// Connections refused because of `maxclients`.
        rejected_connections: "rejected_connections";
        /// Clients closed because they did not take their replies.
        output_limit_closes: "output_limit_closes";
        /// Clients closed because they sent too much ahead.
        query_limit_closes: "query_limit_closes";
        /// Clients closed because they were idle for too long.
        idle_closes: "idle_closes";
        /// AUTH and HELLO with a wrong password.
        denied_logins: "denied_logins";
    }
    store {
        /// Keys evicted because memory was full.
        evicted: "evicted_keys";
        /// Keys that reached their expiry.
        expired: "expired_keys";
    }
}

impl Metrics {
    /// One of the threads' counters, all added up.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&ThreadMetrics) -> &Counter) -> u64 {
        self.threads
            .iter()
            .map(|thread| counter(thread).value())
            .sum()
    }
}
