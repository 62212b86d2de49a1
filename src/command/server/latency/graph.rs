//! Redis's ASCII graph of latencies: a column for each event, its age below.

use crate::metrics::latency::Event;

/// Columns of one graph; longer histories are drawn in several, one below the other.
const COLUMNS: usize = 80;
/// Lines of a graph without its labels.
const ROWS: usize = 4;
/// What a column ends in, from low to high within a line.
const TIPS: [char; 3] = ['_', 'o', '#'];
/// What a column is made of below its tip.
const STEM: char = '|';

/// Draws the events of one kind; `now` is unix time in s.
pub(super) fn draw(kind: &str, event: &Event, now: u64) -> String {
    let millis: Vec<u32> = event.samples.iter().map(|&(_, millis)| millis).collect();
    let low = millis.iter().copied().min().unwrap_or(0);
    let high = millis.iter().copied().max().unwrap_or(0);
    let labels: Vec<String> = event
        .samples
        .iter()
        .map(|&(at, _)| age(now.saturating_sub(at)))
        .collect();
    let head = format!(
        "{kind} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.max_ms,
        "-".repeat(COLUMNS)
    );
    let graphs = millis.chunks(COLUMNS).zip(labels.chunks(COLUMNS));
    let graphs: Vec<String> = graphs
        .map(|(millis, labels)| graph(millis, labels, low, high))
        .collect();
    head + &graphs.join("\n")
}

fn graph(millis: &[u32], labels: &[String], low: u32, high: u32) -> String {
    let mut text = String::new();
    let mut line = |characters: &mut dyn Iterator<Item = char>| {
        text.extend(characters);
        text.push('\n');
    };
    for row in (0..ROWS).rev() {
        let floor = row * TIPS.len();
        line(
            &mut millis
                .iter()
                .map(|&one| match height(one, low, high).checked_sub(floor) {
                    None => ' ',
                    Some(above) => TIPS.get(above).copied().unwrap_or(STEM),
                }),
        );
    }
    line(&mut labels.iter().map(|_| ' '));
    for row in 0..labels.iter().map(String::len).max().unwrap_or(0) {
        line(
            &mut labels
                .iter()
                .map(|label| label.chars().nth(row).unwrap_or(' ')),
        );
    }
    text
}

/// How high a column is, from 0 to the number of tips in all lines less one.
fn height(millis: u32, low: u32, high: u32) -> usize {
    let steps = u64::try_from(ROWS * TIPS.len()).unwrap_or(u64::MAX);
    let range = u64::from(high - low).max(1);
    let step = u64::from(millis - low) * steps / range;
    usize::try_from(step.min(steps - 1)).unwrap_or(0)
}

/// How long ago, in the largest unit that makes a number of it.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_drawn_as_redis_draws_it() {
        let now = 100_000;
        let samples = [(0, 300), (now - 7_200, 400), (now - 61, 500), (now, 350)];
        let event = Event {
            samples: samples.into_iter().collect(),
            max_ms: 900,
        };
        let expected = [
            "command - high 500 ms, low 300 ms (all time high 900 ms)",
            &"-".repeat(COLUMNS),
            "  # ",
            " _| ",
            " ||_",
            "_|||",
            "    ",
            "1210",
            "dhms",
            "",
        ];
        assert_eq!(
            draw("command", &event, now).split('\n').collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_long_history_is_drawn_in_several_graphs() {
        let event = Event {
            samples: (0..81).map(|at| (at, 5)).collect(),
            max_ms: 5,
        };
        let picture = draw("x", &event, 90);
        let lines: Vec<&str> = picture.split('\n').collect();
        assert_eq!(lines[2].len(), COLUMNS);
        assert_eq!(lines.iter().filter(|line| **line == "_").count(), 1);
    }
}
