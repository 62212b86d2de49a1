//! The `corral` server: arguments to settings, settings to a server, until a signal.
//!
//! The only file that prints or exits.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program"
)]

use std::process::ExitCode;

use corral::config::{Config, Invocation};
use corral::server::{Server, StartError};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match Config::from_command_line(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Run(config)) => serve(*config),
        Ok(Invocation::CheckedOk(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Invocation::Help(text) | Invocation::Version(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("corral: {error}");
            ExitCode::from(2)
        }
    }
}

fn serve(config: Config) -> ExitCode {
    match Server::bind(config).and_then(|server| {
        announce(&server);
        server.run(signalled())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corral: {error}");
            ExitCode::from(match error {
                StartError::Upstream(_) => 2,
                StartError::Bind(_) | StartError::System(_) => 1,
            })
        }
    }
}

fn announce(server: &Server) {
    println!("ready {:?}", server.addresses());
}

/// Ends at the first SIGTERM or SIGINT.
async fn signalled() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
