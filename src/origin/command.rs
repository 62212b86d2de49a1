//! Commands: a program is run for each call, without a shell.
//!
//! Each element of the list is one argument. What a client sent cannot become an option: an
//! argument that begins with it and with a dash is refused, unless `--` stands before. The program
//! has its own process group, which is killed as a whole when the call ends without it; an
//! environment of what was asked for; and none of our sockets, all of which are closed on exec.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::config::rules::CommandSpec;
use crate::config::rules::template::{Part, Template};

use super::{Call, Failure, FailureKind, Found, Verb, fill};

/// How much of what a program says on its standard error is read.
const STDERR_BYTES_MAX: usize = 4096;

pub(super) struct Loader {
    load: Vec<Template>,
    store: Option<Vec<Template>>,
    delete: Option<Vec<Template>>,
    absent_exit: i32,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

/// Kills a whole process group when dropped. Its leader has not been waited for, so its number is
/// nobody else's.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended by itself.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Loader {
    pub(super) fn build(spec: &CommandSpec) -> Self {
        let variable = |text: &String| match text.split_once('=') {
            Some((name, value)) => Some((name.into(), value.into())),
            None => Some((text.into(), std::env::var_os(text)?)),
        };
        Self {
            load: spec.load.clone(),
            store: spec.store.clone(),
            delete: spec.delete.clone(),
            absent_exit: spec.absent_exit,
            environment: spec.environment.iter().filter_map(variable).collect(),
            directory: spec.directory.clone(),
        }
    }

    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        verb: Verb<'_>,
        max_value: usize,
    ) -> Result<Option<Found>, Failure> {
        let none = || Failure::new(FailureKind::Refused, "the origin has no such command");
        let (argv, input) = match verb {
            Verb::Load => (&self.load, &b""[..]),
            Verb::Store(value, _) => (self.store.as_ref().ok_or_else(none)?, value),
            Verb::Delete => (self.delete.as_ref().ok_or_else(none)?, &b""[..]),
        };
        let mut child = self.start(&arguments(argv, call)?)?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = Group(leader.map(Pid::from_raw));
        let (output, errors) = talk(&mut child, input, max_value).await?;
        let status = child.wait().await.map_err(lost)?;
        group.0 = None;
        self.judge(status, output, &errors)
    }

    fn start(&self, arguments: &[OsString]) -> Result<Child, Failure> {
        let no_program = || Failure::new(FailureKind::Connect, "there is no program");
        let (program, rest) = arguments.split_first().ok_or_else(no_program)?;
        let started = Command::new(program)
            .args(rest)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        started.map_err(|error| {
            let program = program.to_string_lossy();
            Failure::new(
                FailureKind::Connect,
                format!("cannot run {program}: {error}"),
            )
        })
    }

    /// What the exit status and the output say.
    fn judge(
        &self,
        status: ExitStatus,
        output: Vec<u8>,
        errors: &[u8],
    ) -> Result<Option<Found>, Failure> {
        match status.code() {
            Some(0) => Ok(Some(Found::of(output))),
            Some(code) if code == self.absent_exit => Ok(None),
            Some(code) => {
                let errors = String::from_utf8_lossy(errors);
                let line = errors.trim().lines().next().unwrap_or_default();
                Err(Failure::ill(format!("exit code {code}: {line}")))
            }
            None => Err(Failure::new(
                FailureKind::Lost,
                format!("ended by {status}"),
            )),
        }
    }
}

/// The arguments, each a whole one.
fn arguments(argv: &[Template], call: &Call<'_>) -> Result<Vec<OsString>, Failure> {
    let mut arguments = Vec::with_capacity(argv.len());
    let mut is_behind_dashes = false;
    for template in argv {
        let argument = fill::plain(template, call);
        if argument.contains(&0) {
            return Err(fill::unfit("a NUL byte cannot be part of an argument"));
        }
        let begins_with_place = matches!(template.parts().first(), Some(Part::Place(..)));
        if begins_with_place && argument.starts_with(b"-") && !is_behind_dashes {
            return Err(fill::unfit("it would be an option"));
        }
        is_behind_dashes |= !begins_with_place && argument == b"--";
        arguments.push(OsString::from_vec(argument));
    }
    Ok(arguments)
}

/// Writes a program's input, and reads what it writes, all at the same time.
async fn talk(
    child: &mut Child,
    input: &[u8],
    max_value: usize,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program may end without reading all of it; its exit code says what that means.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let output = async {
        match stdout {
            Some(stdout) => read_all(stdout, max_value).await,
            None => Ok(Vec::new()),
        }
    };
    let errors = async {
        match stderr {
            Some(stderr) => read_first(stderr, STDERR_BYTES_MAX).await,
            None => Ok(Vec::new()),
        }
    };
    let ((), output, errors) = tokio::try_join!(write, output, errors)?;
    Ok((output, errors))
}

/// All there is to read, which may not be longer than this.
async fn read_all(mut from: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut limited = (&mut from).take(limit);
    limited.read_to_end(&mut bytes).await.map_err(lost)?;
    if bytes.len() > max {
        return Err(Failure::too_large(max));
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// The first bytes; the rest is read and forgotten, so that nobody waits to write it.
async fn read_first(mut from: impl AsyncRead + Unpin, max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let mut limited = (&mut from).take(limit);
    limited.read_to_end(&mut bytes).await.map_err(lost)?;
    tokio::io::copy(&mut from, &mut tokio::io::sink())
        .await
        .map_err(lost)?;
    Ok(bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn lost(error: std::io::Error) -> Failure {
    Failure::new(FailureKind::Lost, error.to_string())
}
