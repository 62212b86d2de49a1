//! The `corral` server: arguments to settings, settings to a server, until a signal.
//!
//! The only file that prints or exits.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program"
)]

use std::process::ExitCode;
use std::sync::Arc;

use corral::config::{Config, Invocation};
use corral::instance::Instance;
use corral::logging;
use corral::server::{self, Server, StartError};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match Config::from_command_line(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Run(config)) => serve(*config),
        Ok(Invocation::Check(config)) => check(&config),
        Ok(Invocation::Help(text) | Invocation::Version(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("corral: {error}");
            ExitCode::from(BAD_SETTINGS)
        }
    }
}

fn check(config: &Config) -> ExitCode {
    match server::check(config) {
        Ok(()) => {
            println!("the settings are valid");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn serve(config: Config) -> ExitCode {
    if let Err(error) = logging::init(&config) {
        eprintln!("corral: cannot log: {error}");
        return ExitCode::FAILURE;
    }
    match Server::bind(config).and_then(|server| {
        announce(&server);
        let stopped = signalled(Arc::clone(server.instance()));
        server.run(stopped)
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &StartError) -> ExitCode {
    eprintln!("corral: {error}");
    match error {
        StartError::Upstream(_) | StartError::Rules(_) => ExitCode::from(BAD_SETTINGS),
        StartError::Bind(_) | StartError::Admin(_) | StartError::System(_) => ExitCode::FAILURE,
    }
}

/// Says in the log what it is, where it listens, in which mode and with how much memory.
fn announce(server: &Server) {
    let instance = server.instance();
    let config = instance.config();
    let addresses = server.addresses().join(", ");
    tracing::info!("corral {} is ready on {addresses}", corral::VERSION);
    match &instance.upstream {
        Some(upstream) => tracing::info!("mode: front of {}", upstream.url),
        None => {
            let memory = match config.maxmemory {
                0 => "memory without bound".to_owned(),
                bytes => format!("up to {} of memory", mebibytes(bytes)),
            };
            let policy = config.maxmemory_policy;
            tracing::info!("mode: standalone, {memory}, {policy} when it is full");
        }
    }
    if config.admin_port != 0 {
        let port = config.admin_port;
        tracing::info!("metrics: port {port}, /metrics /healthz /readyz");
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Ends at the first SIGTERM or SIGINT. At a SIGHUP, rules and origins are read anew.
async fn signalled(instance: Arc<Instance>) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    let name = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => {}
        }
        let instance = Arc::clone(&instance);
        // Not by the thread that accepts connections. What comes of it, the log has.
        let _ = tokio::task::spawn_blocking(move || instance.reload_rules()).await;
    };
    tracing::info!("{name}: letting clients finish");
}

/// The exit code for settings that cannot be.
const BAD_SETTINGS: u8 = 2;
