//! The log: where it goes, and how much of it.
//!
//! There is one log in a process, as there is one standard output; so this is the one module with
//! a global.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::config::{Config, LogLevel};

/// Changes how much is logged.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins to log as the settings say: to `logfile`, or to standard output.
///
/// # Errors
/// When the file cannot be written, or there is a log already.
pub fn init(config: &Config) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(targets(config.loglevel));
    let registry = tracing_subscriber::registry();
    let installed = match &config.logfile {
        Some(path) => {
            // Better now than at the first line.
            open(path)?;
            let layer = fmt::layer()
                .with_ansi(false)
                .with_writer(LogFile(path.clone()));
            registry.with(layer.with_filter(filter)).try_init()
        }
        None => {
            let layer = fmt::layer().with_ansi(io::stdout().is_terminal());
            registry.with(layer.with_filter(filter)).try_init()
        }
    };
    installed.map_err(io::Error::other)?;
    let _ = FILTER.set(handle);
    Ok(())
}

/// Logs as much as `level` says from now on. Without a log, does nothing.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(targets(level))
    {
        tracing::error!(%error, "the log level cannot be changed");
    }
}

/// Our own events from this level on; of the libraries only what somebody has to know.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Debug => Level::TRACE,
        LogLevel::Verbose => Level::DEBUG,
        LogLevel::Notice => Level::INFO,
        LogLevel::Warning => Level::WARN,
    };
    Targets::new()
        .with_target("corral", level)
        .with_default(LevelFilter::WARN)
}

/// A file that is opened anew for each line, as Redis does: who rotates it need not tell us.
struct LogFile(PathBuf);

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(open(&self.0).ok())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where a line goes; nowhere while the file cannot be opened (a full disk must not stop us).
struct Line(Option<File>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .as_mut()
            .map_or(Ok(bytes.len()), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
