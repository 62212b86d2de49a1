//! Programs of this machine.

use std::path::Path;
use std::time::Duration;

use corral::origin::{FailureKind, Origin};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::common::value;
use crate::common::{call, delete, failure, failure_within, is_absent, load, origin, store, until};

const SECOND: Duration = Duration::from_secs(1);

fn command(load: &str) -> std::sync::Arc<Origin> {
    origin(&format!("kind = 'command'\nload = {load}\n"))
}

/// Whether a process is there, and no zombie.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.contains(" Z "))
}

#[tokio::test]
async fn what_a_program_prints_is_the_value() {
    assert_eq!(
        value(&command("['printf', '%s', '{1}']"), "a b").await,
        "a b"
    );
    assert_eq!(value(&command("['printf', '']"), "x").await, "");
    assert_eq!(value(&command("['echo', '{key}']"), "x").await, "the:key\n");
}

#[tokio::test]
async fn the_exit_code_says_whether_there_is_a_value() {
    assert!(is_absent(&command("['sh', '-c', 'exit 66']"), "x").await);
    let own = "kind = 'command'\nload = ['grep', '-x', '{1}', '/dev/null']\nabsent-exit = 1\n";
    assert!(is_absent(&origin(own), "x").await);
    let failed = command("['sh', '-c', 'echo wrong >&2; echo more >&2; exit 3']");
    let failure = load(&failed, "x").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(failure.text, "exit code 3: wrong");
    let killed = command("['sh', '-c', 'kill -9 $$']");
    assert_eq!(
        load(&killed, "x").await.unwrap_err().kind,
        FailureKind::Lost
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_to_connect() {
    let origin = command("['/nowhere/program']");
    assert_eq!(failure(&origin, "x").await, FailureKind::Connect);
}

#[tokio::test]
async fn what_a_client_sent_is_one_argument_and_never_code() {
    let dir = tempfile::tempdir().unwrap();
    let trap = dir.path().join("trap");
    let touch = format!("touch {}", trap.display());
    let hostile = [
        format!("; {touch}"),
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("' {touch} '"),
        format!("\" {touch} \""),
        format!("x\n{touch}"),
        "a  b\t*?~$HOME".to_owned(),
    ];
    let direct = command("['printf', '%s', '{1}']");
    let shell = command("['sh', '-c', 'printf %s \"$1\"', 'sh', '{1}']");
    for text in &hostile {
        assert_eq!(&value(&direct, text).await, text);
        assert_eq!(&value(&shell, text).await, text);
    }
    assert!(!trap.exists());
    let bytes = load(&direct, b"\xff\xfe").await.unwrap().unwrap();
    assert_eq!(&bytes.value[..], b"\xff\xfe");
    assert_eq!(failure(&direct, "a\0b").await, FailureKind::Refused);
}

#[tokio::test]
async fn what_a_client_sent_is_no_option() {
    let bare = command("['cat', '{1}']");
    assert_eq!(failure(&bare, "--version").await, FailureKind::Refused);
    assert_eq!(failure(&bare, "-").await, FailureKind::Refused);
    let behind = command("['printf', '%s', '--', '{1}']");
    assert_eq!(value(&behind, "-x").await, "---x");
    let part = command("['printf', '%s', 'id={1}']");
    assert_eq!(value(&part, "-x").await, "id=-x");
    // What a client sends is not the dashes that make an end of options.
    let twice = origin("kind = 'command'\nload = ['printf', '%s', '{1}', '{2}']\n");
    let outcome = twice.load(&call(&[b"--", b"-x"], SECOND)).await;
    assert_eq!(outcome.unwrap_err().kind, FailureKind::Refused);
}

#[tokio::test]
async fn a_value_is_stored_through_standard_input_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let origin = origin(&format!(
        "kind = 'command'\ndirectory = '{}'\nload = ['cat', './{{1}}']\nabsent-exit = 1\n\
         store = ['tee', './{{1}}']\ndelete = ['rm', './{{1}}']\n",
        dir.path().display()
    ));
    let long = vec![b'x'; 300_000];
    store(&origin, "a", &long).await.unwrap();
    assert_eq!(std::fs::read(path("a")).unwrap(), long);
    assert_eq!(value(&origin, "a").await.len(), long.len());
    delete(&origin, "a").await.unwrap();
    assert!(!Path::new(&path("a")).exists());
    assert!(is_absent(&origin, "a").await);
    delete(&origin, "a").await.unwrap();
}

#[tokio::test]
async fn a_program_that_reads_no_input_stores_all_the_same() {
    let origin = origin("kind = 'command'\nload = ['true']\nstore = ['true']\n");
    store(&origin, "a", vec![b'x'; 1 << 20]).await.unwrap();
}

#[tokio::test]
async fn a_value_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
    let printing = |bytes: usize| {
        origin(&format!(
            "kind = 'command'\nload = ['head', '-c', '{bytes}', '/dev/zero']\nmax-value = 100000\n"
        ))
    };
    let found = load(&printing(100_000), "x").await.unwrap().unwrap();
    assert_eq!(found.value.len(), 100_000);
    assert_eq!(
        failure(&printing(100_001), "x").await,
        FailureKind::TooLarge
    );
    // One without an end is not read to it.
    let endless = origin("kind = 'command'\nload = ['cat', '/dev/zero']\n");
    assert_eq!(failure(&endless, "x").await, FailureKind::TooLarge);
}

/// A program that writes its own number and its child's into files, and never ends.
fn never_ending(dir: &TempDir) -> String {
    let dir = dir.path().display();
    format!(
        "kind = 'command'\nload = ['sh', '-c', \
         'sleep 1000 & echo $! > {dir}/child; echo $$ > {dir}/own; wait']\n"
    )
}

fn read(dir: &TempDir, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(dir.path().join(name)).ok()?;
    text.ends_with('\n').then(|| text.trim().to_owned())
}

#[tokio::test]
async fn a_program_and_its_children_are_killed_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let origin = origin(&never_ending(&dir));
    let since = Instant::now();
    let kind = failure_within(&origin, SECOND).await;
    assert_eq!(kind, FailureKind::Timeout);
    assert!(since.elapsed() < 10 * SECOND);
    let (own, child) = (read(&dir, "own").unwrap(), read(&dir, "child").unwrap());
    until("both are gone", || !is_alive(&own) && !is_alive(&child)).await;
    assert_eq!(origin.report().under_way, 0);
}

#[tokio::test]
async fn a_program_and_its_children_are_killed_when_the_caller_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let origin = origin(&never_ending(&dir));
    let caller = std::sync::Arc::clone(&origin);
    let task = tokio::spawn(async move { load(&caller, "x").await });
    until("it runs", || read(&dir, "own").is_some()).await;
    task.abort();
    let (own, child) = (read(&dir, "own").unwrap(), read(&dir, "child").unwrap());
    until("both are gone", || !is_alive(&own) && !is_alive(&child)).await;
    until("its slot is free", || origin.report().under_way == 0).await;
}

#[tokio::test]
async fn what_says_much_on_standard_error_is_not_held_up() {
    let origin = command("['sh', '-c', 'head -c 1000000 /dev/zero >&2; echo done']");
    assert_eq!(value(&origin, "x").await, "done\n");
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for() {
    let origin = origin(
        "kind = 'command'\nload = ['env']\nenvironment = ['CORRAL_TEST=a=b', 'HOME', 'NO_SUCH']\n",
    );
    let text = value(&origin, "x").await;
    let mut names: Vec<_> = text
        .lines()
        .map(|line| line.split('=').next().unwrap())
        .collect();
    names.sort_unstable();
    let expected: &[&str] = if std::env::var_os("HOME").is_some() {
        &["CORRAL_TEST", "HOME", "PATH"]
    } else {
        &["CORRAL_TEST", "PATH"]
    };
    assert_eq!(names, expected);
    assert!(text.contains("CORRAL_TEST=a=b\n"));
}

#[tokio::test]
async fn a_program_has_none_of_our_sockets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let text = value(&command("['ls', '-l', '/proc/self/fd']"), "x").await;
    assert!(
        text.contains("pipe:") && !text.contains("socket:"),
        "{text}"
    );
    drop(client);
}
