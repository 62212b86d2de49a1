//! `LATENCY`: events that took long, and the distribution of every command's run time.

use super::super::options::is_word;
use super::super::spec::Command;
use super::super::table::COMMANDS;
use super::super::{CommandError, Context, help, lookup};
use super::Result;
use super::totals::departures;
use crate::clock;
use crate::metrics::histogram::Totals;
use crate::metrics::latency::Event;
use crate::resp::{Reply, Request};

mod doctor;
mod graph;

/// `LATENCY LATEST`: of each kind of event the last one and the longest.
pub(in crate::command) fn latency_latest(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let events = context.instance.latency.events();
    let reply = &mut *context.reply;
    reply.array(events.len());
    for (kind, event) in &events {
        let (at, millis) = event.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.text(kind);
        write_number(reply, at);
        reply.integer(i64::from(millis));
        reply.integer(i64::from(event.max_ms));
    }
    Ok(())
}

/// `LATENCY HISTORY event`: when the last ones were, and how long.
pub(in crate::command) fn latency_history(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let event = find(context, request.argument(2))
        .map(|(_, event)| event)
        .unwrap_or_default();
    let reply = &mut *context.reply;
    reply.array(event.samples.len());
    for &(at, millis) in &event.samples {
        reply.array(2);
        write_number(reply, at);
        reply.integer(i64::from(millis));
    }
    Ok(())
}

/// `LATENCY RESET [event …]`: forgets these, or all; replies how many there were.
pub(in crate::command) fn latency_reset(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let latency = &context.instance.latency;
    let forgotten = if request.len() == 2 {
        latency.forget_all()
    } else {
        request
            .iter_from(2)
            .filter(|kind| latency.forget(kind))
            .count()
    };
    context.reply.count(forgotten);
    Ok(())
}

/// `LATENCY GRAPH event`: the last ones as a picture.
pub(in crate::command) fn latency_graph(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let kind = request.argument(2);
    let Some((kind, event)) = find(context, kind) else {
        let kind = String::from_utf8_lossy(kind);
        return Err(CommandError::other(format!(
            "ERR No samples available for event '{kind}'"
        )));
    };
    let picture = graph::draw(kind, &event, clock::unix_ms() / 1000);
    context.reply.verbatim("txt", picture.as_bytes());
    Ok(())
}

/// `LATENCY DOCTOR`: what the events tell, in words.
pub(in crate::command) fn latency_doctor(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    let config = context.instance.config();
    let report = doctor::report(&context.instance.latency.events(), &config);
    context.reply.verbatim("txt", report.as_bytes());
    Ok(())
}

/// `LATENCY HISTOGRAM [command …]`: how many calls took how long.
pub(in crate::command) fn latency_histogram(
    context: &mut Context<'_>,
    request: &Request<'_>,
) -> Result {
    let departures = departures(context.instance, &mut context.view);
    let snapshot = context.instance.metrics.since_reset(departures);
    let asked: Vec<&'static Command> = if request.len() == 2 {
        COMMANDS.iter().collect()
    } else {
        // A container's subcommands count as named with it.
        let named = request.iter_from(2).filter_map(lookup::find_full);
        named
            .flat_map(|command| std::iter::once(command).chain(command.subcommands()))
            .collect()
    };
    let found: Vec<(&Command, &Totals)> = asked
        .into_iter()
        .filter_map(|command| {
            let counts = &snapshot.commands[command.index()];
            Some((command, counts.histogram.as_deref()?))
        })
        .collect();
    context.reply.map(found.len());
    for (command, histogram) in found {
        context.reply.text(command.name);
        write_histogram(context.reply, histogram);
    }
    Ok(())
}

/// `LATENCY HELP`
pub(in crate::command) fn latency_help(context: &mut Context<'_>, _: &Request<'_>) -> Result {
    help(context, "LATENCY", HELP);
    Ok(())
}

/// Cumulative counts at 1 µs, 2 µs, 4 µs …, as far as they rise.
///
/// The steps are the powers of two in ns, told in µs as Redis tells them: its buckets are 1/128 of
/// their value wide, and it tells their ends.
fn write_histogram(reply: &mut Reply, histogram: &Totals) {
    let mut steps = Vec::new();
    let mut before = 0;
    for power in FIRST_POWER..u64::BITS {
        let step = 1_u64 << power;
        let below = if power == u64::BITS - 1 {
            histogram.count()
        } else {
            histogram.count_below(step)
        };
        if below > before {
            steps.push(((step + step / 128 - 1) / 1000, below));
            before = below;
        }
    }
    reply.map(2);
    reply.text("calls");
    write_number(reply, histogram.count());
    reply.text("histogram_usec");
    reply.map(steps.len());
    for (micros, count) in steps {
        write_number(reply, micros);
        write_number(reply, count);
    }
}

/// 1024 ns
const FIRST_POWER: u32 = 10;

/// What is kept of a kind of event, by its name in any case.
fn find(context: &Context<'_>, kind: &[u8]) -> Option<(&'static str, Event)> {
    let events = context.instance.latency.events();
    events.into_iter().find(|(name, _)| is_word(kind, name))
}

fn write_number(reply: &mut Reply, number: u64) {
    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
}

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a human readable latency analysis report.",
    "GRAPH <event>",
    "    Return an ASCII latency graph for the <event> class.",
    "HISTORY <event>",
    "    Return time-latency samples for the <event> class.",
    "LATEST",
    "    Return the latest latency samples for all events.",
    "RESET [<event> ...]",
    "    Reset latency data of one or more <event> classes.",
    "    (default: reset all data for all event classes)",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the \
     specified command names.",
    "    If no commands are specified then all histograms are replied.",
];
