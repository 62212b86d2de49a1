//! `MEMORY`: what takes how many bytes.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::super::numbers::format_double;
use super::super::options::{integer, is_word};
use super::super::{CommandError, Context, help};
use super::Result;
use super::totals::Totals;
use crate::config::{Config, MaxmemoryPolicy};
use crate::instance::Instance;
use crate::metrics::process;
use crate::resp::{Reply, Request};

/// Memory as a whole, in bytes.
pub(crate) struct Memory {
    /// What keys and values cost: what `maxmemory` bounds.
    pub(crate) used: usize,
    /// The most that ever was.
    pub(crate) peak: usize,
    /// What the process had in RAM before it had any keys.
    pub(crate) startup: usize,
    /// What the process has in RAM.
    pub(crate) resident: usize,
    /// Buffers of all clients.
    pub(crate) clients: usize,
    /// Tables and queues.
    pub(crate) lists: usize,
}

impl Memory {
    pub(crate) fn of(instance: &Instance, totals: &Totals) -> Self {
        let clients = instance.clients.list();
        let buffers = clients
            .iter()
            .map(|client| client.doing.memory.load(Ordering::Relaxed));
        Self {
            used: totals.items_bytes,
            peak: instance.metrics.peak.note(totals.items_bytes),
            startup: instance.metrics.startup_bytes,
            resident: process::resident_bytes(),
            clients: buffers.sum(),
            lists: totals.lists_bytes,
        }
    }

    /// What is not keys and values themselves.
    pub(super) fn overhead(&self) -> usize {
        self.clients + self.lists
    }

    /// Keys and values themselves.
    pub(super) fn dataset(&self) -> usize {
        self.used.saturating_sub(self.lists)
    }

    /// The process's memory as a multiple of what its contents and the bare process explain.
    pub(super) fn fragmentation(&self) -> f64 {
        ratio(self.resident, self.explained())
    }

    /// Bytes that neither the contents nor the bare process explain; below 0 when swapped out.
    pub(super) fn fragmentation_bytes(&self) -> i64 {
        signed(self.resident) - signed(self.explained())
    }

    /// What the contents and the bare process take together.
    pub(super) fn explained(&self) -> usize {
        self.used + self.clients + self.startup
    }
}

/// One number of bytes as a multiple of another; 0 of none.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub(super) fn ratio(bytes: usize, of: usize) -> f64 {
    if of == 0 {
        0.0
    } else {
        bytes as f64 / of as f64
    }
}

pub(super) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// `MEMORY USAGE key [SAMPLES count]`. Every value is one piece of memory: nothing is sampled.
pub(in crate::command) fn memory_usage(context: &mut Context<'_>, request: &Request<'_>) -> Result {
    let mut rest = request.iter_from(3);
    while let Some(word) = rest.next() {
        let count = rest.next().filter(|_| is_word(word, "samples"));
        if integer(count.ok_or(CommandError::Syntax)?)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    let place = context.place(request.argument(2));
    match context.view.peek(place).map(|entry| entry.charge()) {
        Some(bytes) => context.reply.count(bytes),
        None => context.reply.null(),
    }
    Ok(())
}

/// `MEMORY STATS`
pub(in crate::command) fn memory_stats(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let totals = Totals::of(context.instance, &mut context.view);
    let memory = Memory::of(context.instance, &totals);
    let filled = || {
        totals
            .databases
            .iter()
            .enumerate()
            .filter(|(_, database)| database.keys > 0)
    };
    let keys = totals.keys();
    let reply = &mut *context.reply;
    reply.map(27 + filled().count());
    for (name, bytes) in [
        ("peak.allocated", memory.peak),
        ("total.allocated", memory.used),
        ("startup.allocated", memory.startup),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", memory.clients),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
    ] {
        reply.text(name);
        reply.count(bytes);
    }
    for (number, database) in filled() {
        reply.text(&format!("db.{number}"));
        reply.map(3);
        reply.text("overhead.hashtable.main");
        // Every database's share of the tables, by its keys.
        reply.count(memory.lists / keys.max(1) * database.keys);
        for name in [
            "overhead.hashtable.expires",
            "overhead.hashtable.slot-to-keys",
        ] {
            reply.text(name);
            reply.count(0);
        }
    }
    write_stats(reply, &memory, keys);
    Ok(())
}

/// The statistics behind those of the databases.
fn write_stats(reply: &mut Reply, memory: &Memory, keys: usize) {
    let mut number = |name: &str, value: Number| {
        reply.text(name);
        match value {
            Number::Bytes(bytes) => reply.integer(bytes),
            Number::Ratio(ratio) => reply.double(&format_double(ratio)),
        }
    };
    let bytes = |bytes: usize| Number::Bytes(signed(bytes));
    let percent = |part: usize, of: usize| Number::Ratio(ratio(part, of) * 100.0);
    number("overhead.total", bytes(memory.overhead()));
    number("keys.count", bytes(keys));
    number(
        "keys.bytes-per-key",
        bytes(memory.used.checked_div(keys).unwrap_or(0)),
    );
    number("dataset.bytes", bytes(memory.dataset()));
    number("dataset.percentage", percent(memory.dataset(), memory.used));
    number("peak.percentage", percent(memory.used, memory.peak));
    // Of the system's allocator only its result is known, as Redis has it without jemalloc.
    number("allocator.allocated", bytes(memory.explained()));
    number("allocator.active", bytes(memory.resident));
    number("allocator.resident", bytes(memory.resident));
    number(
        "allocator-fragmentation.ratio",
        Number::Ratio(memory.fragmentation()),
    );
    number(
        "allocator-fragmentation.bytes",
        Number::Bytes(memory.fragmentation_bytes()),
    );
    number("allocator-rss.ratio", Number::Ratio(1.0));
    number("allocator-rss.bytes", bytes(0));
    number("rss-overhead.ratio", Number::Ratio(1.0));
    number("rss-overhead.bytes", bytes(0));
    number("fragmentation", Number::Ratio(memory.fragmentation()));
    number(
        "fragmentation.bytes",
        Number::Bytes(memory.fragmentation_bytes()),
    );
}

enum Number {
    Bytes(i64),
    Ratio(f64),
}

/// `MEMORY DOCTOR`: what an operator might change, in words.
pub(in crate::command) fn memory_doctor(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let totals = Totals::of(context.instance, &mut context.view);
    let memory = Memory::of(context.instance, &totals);
    let report = diagnose(
        &memory,
        totals.departures.evicted,
        &context.instance.config(),
    );
    context.reply.verbatim("txt", report.as_bytes());
    Ok(())
}

fn diagnose(memory: &Memory, evicted: u64, config: &Config) -> String {
    let mut report = String::new();
    let bound = usize::try_from(config.maxmemory).unwrap_or(usize::MAX);
    // Writing to a String cannot fail.
    if bound == 0 {
        report.push_str(
            "- There is no bound: with maxmemory 0 the system ends the process when memory runs \
             out. CONFIG SET maxmemory.\n",
        );
    } else if memory.used > bound / 10 * 9 && config.maxmemory_policy == MaxmemoryPolicy::NoEviction
    {
        let _ = writeln!(
            report,
            "- Memory is {:.0} % full and maxmemory-policy is noeviction: writes will be refused.",
            ratio(memory.used, bound) * 100.0
        );
    } else if evicted > 0 {
        let _ = writeln!(
            report,
            "- {evicted} keys were evicted so far: memory is full. That is what a cache does; \
             CACHE.STATS tells whether it costs hits."
        );
    }
    if memory.used > EMPTY_BYTES && memory.fragmentation() > FRAGMENTATION_HIGH {
        let _ = writeln!(
            report,
            "- The process has {:.2} times the memory that its contents explain: values of very \
             different lengths came and went. A restart gives it back.",
            memory.fragmentation()
        );
    }
    if memory.used > EMPTY_BYTES && memory.clients > memory.used / 2 {
        let _ = writeln!(
            report,
            "- Clients' buffers take {} bytes: CLIENT LIST shows whose (tot-mem).",
            memory.clients
        );
    }
    if report.is_empty() {
        "Nothing to report.\n".to_owned()
    } else {
        report
    }
}

/// Below this much in use, ratios say nothing (Redis's limit too).
const EMPTY_BYTES: usize = 5 * 1024 * 1024;
/// From here on fragmentation is worth a word (Redis's limit too).
const FRAGMENTATION_HIGH: f64 = 1.4;

/// `MEMORY PURGE`. The system's allocator gives back what it can by itself.
pub(in crate::command) fn memory_purge(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    context.reply.ok();
    Ok(())
}

/// `MEMORY MALLOC-STATS`
pub(in crate::command) fn memory_malloc_stats(
    context: &mut Context<'_>,
    _: &Request<'_>,
) -> Result {
    context
        .reply
        .text("Stats not supported for the current allocator");
    Ok(())
}

/// `MEMORY HELP`
pub(in crate::command) fn memory_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "MEMORY", HELP);
    Ok(())
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "MALLOC-STATS",
    "    Return internal statistics report from the memory allocator.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];
