//! Server processes for the tests: a real Redis, and ours. Each test binary takes this file in.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corral::clock;
use tempfile::TempDir;

/// How long a reply, or a server's start, may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server process on a port of its own. Killed when dropped.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) port: u16,
    /// Its working directory.
    _dir: TempDir,
}

impl Server {
    /// The real thing, as the tests' authority.
    pub(crate) fn redis(args: &[&str]) -> Self {
        Self::start(|port, dir| {
            let mut command = redis(port, dir);
            command.args(args);
            command
        })
    }

    /// The same on this very port.
    pub(crate) fn redis_on(port: u16, args: &[&str]) -> Self {
        let since = clock::now();
        loop {
            let server = Self::try_start(port, &|port, dir| {
                let mut command = redis(port, dir);
                command.args(args);
                command
            });
            if let Some(server) = server {
                return server;
            }
            assert!(since.elapsed() < PATIENCE, "port {port} is taken");
        }
    }

    /// Ours, standalone and without a bound as Redis is by default, unless `args` say otherwise.
    pub(crate) fn corral(args: &[&str]) -> Self {
        Self::corral_with(args, &[])
    }

    /// Ours, with variables of the environment.
    pub(crate) fn corral_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start(|port, dir| {
            let mut command = corral(dir);
            command
                .envs(variables.iter().copied())
                .args(["--port", &port.to_string()])
                .args(["--loglevel", "warning", "--bind", "127.0.0.1"])
                .args(["--enable-debug-command", "yes"]);
            let defaults = [("--maxmemory", "0"), ("--maxmemory-policy", "noeviction")];
            for (name, value) in defaults {
                if !args.contains(&name) {
                    command.args([name, value]);
                }
            }
            command.args(args);
            command
        })
    }

    /// Starts what `command` says. A port that was taken meanwhile is given up for another.
    pub(crate) fn start(command: impl Fn(u16, &Path) -> Command) -> Self {
        let started = (0..5).find_map(|_| Self::try_start(free_port(), &command));
        started.expect("a server starts")
    }

    fn try_start(port: u16, command: &impl Fn(u16, &Path) -> Command) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let output = File::create(&log).expect("a log");
        let mut command = command(port, dir.path());
        let errors = output.try_clone().expect("a log");
        let process = command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let process = process.spawn().unwrap_or_else(|error| {
            let program = command.get_program().to_string_lossy();
            panic!("cannot start {program}: {error}")
        });
        let mut server = Self {
            process,
            port,
            _dir: dir,
        };
        if server.is_up() {
            return Some(server);
        }
        eprintln!("{}", std::fs::read_to_string(log).expect("a log"));
        None
    }

    fn is_up(&mut self) -> bool {
        let since = clock::now();
        while since.elapsed() < PATIENCE {
            if self.process.try_wait().expect("a child").is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.process.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn redis(port: u16, dir: &Path) -> Command {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--enable-debug-command", "yes", "--loglevel", "warning"])
        .arg("--dir")
        .arg(dir);
    command
}

/// Our binary, in a directory, without this process's settings.
pub(crate) fn corral(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corral"));
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORRAL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A command in wire form.
pub(crate) fn request<T: AsRef<[u8]>>(arguments: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
