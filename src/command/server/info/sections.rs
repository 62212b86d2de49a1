//! The sections of `INFO`, in Redis's order, each with its fields in Redis's order.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::super::table::COMMANDS;
use super::super::memory::ratio;
use super::{Facts, Lines, Section};
use crate::clock;
use crate::config::memory_limit_of_machine;
use crate::metrics::process::{self, ProcessorTime};
use crate::{REDIS_VERSION, VERSION};

/// All there are.
pub(super) const SECTIONS: &[Section] = &[
    section("Server", &["server"], server),
    section("Clients", &["clients"], clients),
    section("Memory", &["memory"], memory),
    section("Persistence", &["persistence"], persistence),
    section("Stats", &["stats"], stats),
    section("Replication", &["replication"], replication),
    section("CPU", &["cpu"], cpu),
    section("Modules", &["modules", "module_list"], |_, _| {}),
    Section {
        is_default: false,
        ..section("Commandstats", &["commandstats"], command_stats)
    },
    section("Errorstats", &["errorstats"], error_stats),
    Section {
        is_default: false,
        ..section("Latencystats", &["latencystats"], latency_stats)
    },
    section("Cluster", &["cluster"], |lines, _| {
        lines.line("cluster_enabled", 0);
    }),
    section("Keyspace", &["keyspace"], keyspace),
];

const fn section(
    title: &'static str,
    names: &'static [&'static str],
    write: fn(&mut Lines, &Facts<'_>),
) -> Section {
    Section {
        title,
        names,
        is_default: true,
        write,
    }
}

fn server(lines: &mut Lines, facts: &Facts<'_>) {
    let instance = facts.instance;
    let config = instance.config();
    let uptime = instance.uptime().as_secs();
    lines.line("redis_version", REDIS_VERSION);
    lines.line("corral_version", VERSION);
    let is_front = instance.upstream.is_some();
    let mode = if is_front { "front" } else { "standalone" };
    lines.line("corral_mode", mode);
    lines.constants(&[
        ("redis_git_sha1", "00000000"),
        ("redis_git_dirty", "0"),
        ("redis_build_id", "0"),
        ("redis_mode", "standalone"),
    ]);
    lines.line("os", process::system());
    lines.line("arch_bits", usize::BITS);
    lines.constants(&[
        ("monotonic_clock", "POSIX clock_gettime"),
        ("multiplexing_api", "epoll"),
        ("atomicvar_api", "rust-builtin"),
        ("gcc_version", "0.0.0"),
    ]);
    lines.line("process_id", std::process::id());
    lines.line("process_supervised", "no");
    lines.line("run_id", &instance.run_id);
    lines.line("tcp_port", config.port);
    lines.line("server_time_usec", clock::unix_micros());
    lines.line("uptime_in_seconds", uptime);
    lines.line("uptime_in_days", uptime / (24 * 3600));
    lines.line("hz", config.hz.per_second());
    lines.line("configured_hz", config.hz.per_second());
    lines.line("lru_clock", (clock::unix_ms() / 1000) & LRU_CLOCK_MAX);
    let executable = std::env::current_exe().unwrap_or_default();
    lines.line("executable", executable.display());
    lines.line(
        "config_file",
        config.file().unwrap_or_else(|| "".as_ref()).display(),
    );
    lines.line("io_threads_active", u8::from(config.io_threads > 1));
}

/// Redis keeps the time of a key's last use in 24 bits.
const LRU_CLOCK_MAX: u64 = (1 << 24) - 1;

fn clients(lines: &mut Lines, facts: &Facts<'_>) {
    let clients = facts.instance.clients.list();
    let input = clients.iter().map(|client| {
        let doing = &client.doing;
        doing.query.load(Ordering::Relaxed) + doing.query_free.load(Ordering::Relaxed)
    });
    let output = clients
        .iter()
        .map(|client| client.doing.reply.load(Ordering::Relaxed));
    let paused = clients
        .iter()
        .filter(|client| client.doing.paused.load(Ordering::Relaxed));
    lines.line("connected_clients", clients.len());
    lines.line("cluster_connections", 0);
    lines.line("maxclients", facts.instance.config().maxclients);
    lines.line("client_recent_max_input_buffer", input.max().unwrap_or(0));
    lines.line("client_recent_max_output_buffer", output.max().unwrap_or(0));
    lines.line("blocked_clients", paused.count());
    lines.line("tracking_clients", 0);
    lines.line("clients_in_timeout_table", 0);
}

fn memory(lines: &mut Lines, facts: &Facts<'_>) {
    let memory = &facts.memory;
    let config = facts.instance.config();
    let percent = |part, of| format!("{:.2}%", ratio(part, of) * 100.0);
    let limit = memory_limit_of_machine().unwrap_or(0);
    let bound = usize::try_from(config.maxmemory).unwrap_or(usize::MAX);
    lines.bytes("used_memory", memory.used);
    lines.bytes("used_memory_rss", memory.resident);
    lines.bytes("used_memory_peak", memory.peak);
    lines.line("used_memory_peak_perc", percent(memory.used, memory.peak));
    lines.line("used_memory_overhead", memory.overhead());
    lines.line("used_memory_startup", memory.startup);
    lines.line("used_memory_dataset", memory.dataset());
    lines.line(
        "used_memory_dataset_perc",
        percent(memory.dataset(), memory.used),
    );
    lines.line("allocator_allocated", memory.explained());
    lines.line("allocator_active", memory.resident);
    lines.line("allocator_resident", memory.resident);
    lines.bytes(
        "total_system_memory",
        usize::try_from(limit).unwrap_or(usize::MAX),
    );
    lines.constants(NO_SCRIPTS);
    lines.bytes("maxmemory", bound);
    lines.line("maxmemory_policy", config.maxmemory_policy);
    lines.line("allocator_frag_ratio", two_digits(memory.fragmentation()));
    lines.line("allocator_frag_bytes", memory.fragmentation_bytes());
    lines.constants(&[
        ("allocator_rss_ratio", "1.00"),
        ("allocator_rss_bytes", "0"),
        ("rss_overhead_ratio", "1.00"),
        ("rss_overhead_bytes", "0"),
    ]);
    lines.line(
        "mem_fragmentation_ratio",
        two_digits(memory.fragmentation()),
    );
    lines.line("mem_fragmentation_bytes", memory.fragmentation_bytes());
    lines.constants(&[
        ("mem_not_counted_for_evict", "0"),
        ("mem_replication_backlog", "0"),
        ("mem_total_replication_buffers", "0"),
        ("mem_clients_slaves", "0"),
    ]);
    lines.line("mem_clients_normal", memory.clients);
    lines.constants(&[
        ("mem_cluster_links", "0"),
        ("mem_aof_buffer", "0"),
        ("mem_allocator", "libc"),
        ("active_defrag_running", "0"),
        ("lazyfree_pending_objects", "0"),
        ("lazyfreed_objects", "0"),
    ]);
}

const NO_SCRIPTS: &[(&str, &str)] = &[
    ("used_memory_lua", "0"),
    ("used_memory_vm_eval", "0"),
    ("used_memory_lua_human", "0B"),
    ("used_memory_scripts_eval", "0"),
    ("number_of_cached_scripts", "0"),
    ("number_of_functions", "0"),
    ("number_of_libraries", "0"),
    ("used_memory_vm_functions", "0"),
    ("used_memory_vm_total", "0"),
    ("used_memory_vm_total_human", "0B"),
    ("used_memory_functions", "0"),
    ("used_memory_scripts", "0"),
    ("used_memory_scripts_human", "0B"),
];

fn persistence(lines: &mut Lines, facts: &Facts<'_>) {
    lines.constants(&[
        ("loading", "0"),
        ("async_loading", "0"),
        ("current_cow_peak", "0"),
        ("current_cow_size", "0"),
        ("current_cow_size_age", "0"),
        ("current_fork_perc", "0.00"),
        ("current_save_keys_processed", "0"),
        ("current_save_keys_total", "0"),
    ]);
    let changes = facts.instance.metrics.sum(|thread| &thread.changes);
    lines.line("rdb_changes_since_last_save", changes);
    lines.line("rdb_bgsave_in_progress", 0);
    // A Redis that has never saved tells its start.
    lines.line("rdb_last_save_time", facts.instance.started_ms / 1000);
    lines.constants(&[
        ("rdb_last_bgsave_status", "ok"),
        ("rdb_last_bgsave_time_sec", "-1"),
        ("rdb_current_bgsave_time_sec", "-1"),
        ("rdb_saves", "0"),
        ("rdb_last_cow_size", "0"),
        ("rdb_last_load_keys_expired", "0"),
        ("rdb_last_load_keys_loaded", "0"),
        ("aof_enabled", "0"),
        ("aof_rewrite_in_progress", "0"),
        ("aof_rewrite_scheduled", "0"),
        ("aof_last_rewrite_time_sec", "-1"),
        ("aof_current_rewrite_time_sec", "-1"),
        ("aof_last_bgrewrite_status", "ok"),
        ("aof_rewrites", "0"),
        ("aof_rewrites_consecutive_failures", "0"),
        ("aof_last_write_status", "ok"),
        ("aof_last_cow_size", "0"),
        ("module_fork_in_progress", "0"),
        ("module_fork_last_cow_size", "0"),
    ]);
}

fn stats(lines: &mut Lines, facts: &Facts<'_>) {
    let counts = &facts.snapshot.counts;
    let rates = facts.instance.metrics.rates.mean();
    lines.line(
        "total_connections_received",
        counts.connections + counts.rejected_connections,
    );
    let calls = match &facts.instance.upstream {
        None => facts.snapshot.calls(),
        // What its clients ask for mostly runs elsewhere.
        Some(_) => counts.requests,
    };
    lines.line("total_commands_processed", calls);
    lines.line("instantaneous_ops_per_sec", rates.requests);
    lines.line("total_net_input_bytes", counts.bytes_in);
    lines.line("total_net_output_bytes", counts.bytes_out);
    lines.line("total_net_repl_input_bytes", 0);
    lines.line("total_net_repl_output_bytes", 0);
    lines.line("instantaneous_input_kbps", kilobytes(rates.bytes_in));
    lines.line("instantaneous_output_kbps", kilobytes(rates.bytes_out));
    lines.line("instantaneous_input_repl_kbps", "0.00");
    lines.line("instantaneous_output_repl_kbps", "0.00");
    lines.line("rejected_connections", counts.rejected_connections);
    lines.line("sync_full", 0);
    lines.line("sync_partial_ok", 0);
    lines.line("sync_partial_err", 0);
    lines.line("expired_keys", counts.expired);
    lines.line("expired_stale_perc", "0.00");
    lines.line("expired_time_cap_reached_count", 0);
    lines.line("expire_cycle_cpu_milliseconds", 0);
    lines.line("evicted_keys", counts.evicted);
    lines.line("evicted_clients", 0);
    lines.line("total_eviction_exceeded_time", 0);
    lines.line("current_eviction_exceeded_time", 0);
    lines.line("keyspace_hits", counts.hits);
    lines.line("keyspace_misses", counts.misses);
    lines.constants(UNUSED_STATS);
    lines.line("total_error_replies", facts.snapshot.error_replies());
    lines.line("dump_payload_sanitizations", 0);
    lines.line("total_reads_processed", counts.reads);
    lines.line("total_writes_processed", counts.writes);
    lines.line("io_threaded_reads_processed", counts.reads);
    lines.line("io_threaded_writes_processed", counts.writes);
    lines.line("reply_buffer_shrinks", 0);
    lines.line("reply_buffer_expands", 0);
}

const UNUSED_STATS: &[(&str, &str)] = &[
    ("pubsub_channels", "0"),
    ("pubsub_patterns", "0"),
    ("pubsubshard_channels", "0"),
    ("latest_fork_usec", "0"),
    ("total_forks", "0"),
    ("migrate_cached_sockets", "0"),
    ("slave_expires_tracked_keys", "0"),
    ("active_defrag_hits", "0"),
    ("active_defrag_misses", "0"),
    ("active_defrag_key_hits", "0"),
    ("active_defrag_key_misses", "0"),
    ("total_active_defrag_time", "0"),
    ("current_active_defrag_time", "0"),
    ("tracking_total_keys", "0"),
    ("tracking_total_items", "0"),
    ("tracking_total_prefixes", "0"),
    ("unexpected_error_replies", "0"),
];

fn replication(lines: &mut Lines, facts: &Facts<'_>) {
    lines.constants(&[
        ("role", "master"),
        ("connected_slaves", "0"),
        ("master_failover_state", "no-failover"),
    ]);
    // As unique, and as short-lived, as an id of a replication history has to be.
    lines.line("master_replid", &facts.instance.run_id);
    lines.constants(&[
        ("master_replid2", "0000000000000000000000000000000000000000"),
        ("master_repl_offset", "0"),
        ("second_repl_offset", "-1"),
        ("repl_backlog_active", "0"),
        ("repl_backlog_size", "1048576"),
        ("repl_backlog_first_byte_offset", "0"),
        ("repl_backlog_histlen", "0"),
    ]);
}

fn cpu(lines: &mut Lines, _: &Facts<'_>) {
    let seconds = |time: Duration| format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    for (whose, time) in [
        ("", ProcessorTime::of_process()),
        ("_children", ProcessorTime::of_children()),
        ("_main_thread", ProcessorTime::of_main_thread()),
    ] {
        lines.line(&format!("used_cpu_sys{whose}"), seconds(time.system));
        lines.line(&format!("used_cpu_user{whose}"), seconds(time.user));
    }
}

fn command_stats(lines: &mut Lines, facts: &Facts<'_>) {
    for (command, counts) in COMMANDS.iter().zip(&facts.snapshot.commands) {
        if counts.is_silent() {
            continue;
        }
        let micros = counts.nanos / 1000;
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let each = micros as f64 / counts.calls.max(1) as f64;
        lines.line(
            &format!("cmdstat_{}", command.name),
            format_args!(
                "calls={},usec={micros},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                counts.calls, counts.rejected, counts.failed
            ),
        );
    }
}

fn error_stats(lines: &mut Lines, facts: &Facts<'_>) {
    for (code, count) in &facts.snapshot.errors {
        lines.line(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn latency_stats(lines: &mut Lines, facts: &Facts<'_>) {
    let config = facts.instance.config();
    if !config.latency_tracking {
        return;
    }
    for (command, counts) in COMMANDS.iter().zip(&facts.snapshot.commands) {
        let Some(histogram) = &counts.histogram else {
            continue;
        };
        let mut percentiles = String::new();
        for &percent in &config.latency_tracking_info_percentiles {
            let comma = if percentiles.is_empty() { "" } else { "," };
            let nanos = histogram.percentile(percent);
            // Writing to a String cannot fail.
            let _ = write!(
                percentiles,
                "{comma}p{percent}={}.{:03}",
                nanos / 1000,
                nanos % 1000
            );
        }
        lines.line(
            &format!("latency_percentiles_usec_{}", command.name),
            percentiles,
        );
    }
}

fn keyspace(lines: &mut Lines, facts: &Facts<'_>) {
    if facts.instance.upstream.is_some() {
        return; // Keys are upstream's; copies are in the section Near.
    }
    for (number, database) in facts.totals.databases.iter().enumerate() {
        if database.keys > 0 {
            lines.line(
                &format!("db{number}"),
                format_args!(
                    "keys={},expires={},avg_ttl={}",
                    database.keys,
                    database.volatile,
                    database.ttl_ms()
                ),
            );
        }
    }
}

/// Bytes in units of 1024, with two digits.
fn kilobytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let kilobytes = bytes as f64 / 1024.0;
    two_digits(kilobytes)
}

fn two_digits(number: f64) -> String {
    format!("{number:.2}")
}
