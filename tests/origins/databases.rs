//! PostgreSQL and MariaDB, as Debian packages them: started on free ports, with files of their own,
//! and shared by the tests that run at the same time. Neither runs as root, so they get a user.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::common::{PATIENCE, load, origin};
use crate::servers::Server;

/// A database server, and where to reach it.
pub(crate) struct Database {
    pub(crate) server: Server,
    /// Without a password.
    pub(crate) url: String,
}

static POSTGRES: Mutex<Weak<Database>> = Mutex::new(Weak::new());
static MARIADB: Mutex<Weak<Database>> = Mutex::new(Weak::new());

/// The PostgreSQL of all tests that run now. The user `u` has the password `p w`.
pub(crate) async fn postgres() -> Arc<Database> {
    let database = shared(&POSTGRES, start_postgres);
    is_ready("postgres", &database.url).await;
    database
}

/// The MariaDB of all tests that run now. The user `u` has the password `p w`.
pub(crate) async fn mariadb() -> Arc<Database> {
    let database = shared(&MARIADB, start_mariadb);
    is_ready("mysql", &database.url).await;
    database
}

fn shared(of: &Mutex<Weak<Database>>, start: fn() -> Database) -> Arc<Database> {
    let mut known = of.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(database) = known.upgrade() {
        return database;
    }
    let database = Arc::new(start());
    *known = Arc::downgrade(&database);
    database
}

pub(crate) fn start_postgres() -> Database {
    let server = Server::start(|port, dir| {
        let data = dir.join("data");
        std::fs::write(dir.join("password"), "p w\n").expect("a file");
        own(dir, "postgres");
        let mut initdb = as_user("postgres", &postgres_program("initdb"));
        initdb
            .args([
                "--username=u",
                "--auth=scram-sha-256",
                "--no-sync",
                "--locale=C.UTF-8",
                "-E",
            ])
            .arg("UTF8")
            .arg(format!("--pwfile={}", dir.join("password").display()))
            .arg("-D")
            .arg(&data);
        run(initdb);
        let mut command = as_user("postgres", &postgres_program("postgres"));
        command
            .arg("-D")
            .arg(&data)
            .args([
                "-F",
                "-p",
                &port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-k",
            ])
            .arg(dir);
        command
    });
    let url = format!("postgres://u@127.0.0.1:{}/postgres", server.port);
    Database { server, url }
}

fn start_mariadb() -> Database {
    let server = Server::start(|port, dir| {
        let data = dir.join("data");
        std::fs::create_dir(&data).expect("a directory");
        // A statement a line.
        let users = "CREATE USER u@'%' IDENTIFIED BY 'p w';\nGRANT ALL ON *.* TO u@'%';\n\
                     CREATE DATABASE d CHARACTER SET utf8mb4;\n";
        let init = dir.join("init.sql");
        std::fs::write(&init, users).expect("a file");
        own(dir, "mysql");
        own(&data, "mysql");
        let mut install = as_user("mysql", "mariadb-install-db");
        install
            .args([
                "--no-defaults",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ])
            .arg(format!("--datadir={}", data.display()));
        run(install);
        let program = if Path::new("/usr/sbin/mariadbd").exists() {
            "/usr/sbin/mariadbd"
        } else {
            "mariadbd"
        };
        let mut command = as_user("mysql", program);
        command
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=16M",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", dir.join("socket").display()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .arg(format!("--init-file={}", init.display()));
        command
    });
    let url = format!("mysql://u@127.0.0.1:{}/d", server.port);
    Database { server, url }
}

/// A program of PostgreSQL, which Debian keeps out of the path.
fn postgres_program(name: &str) -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let paths = versions.map(|version| version.path().join("bin").join(name));
    let mut paths: Vec<_> = paths.filter(|path| path.exists()).collect();
    paths.sort();
    paths
        .pop()
        .map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn id(kind: &str, user: &str) -> u32 {
    let output = Command::new("id").args([kind, user]).output().expect("id");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("no user {user}: is the package installed?"))
}

/// Gives a directory to a user, where we may.
fn own(path: &Path, user: &str) {
    if is_root() {
        chown(path, Some(id("-u", user)), Some(id("-g", user))).expect("ours to give");
    }
}

/// A program, as a user where we may choose.
fn as_user(user: &str, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if is_root() {
        command.uid(id("-u", user)).gid(id("-g", user));
    }
    command
}

fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

/// Runs a statement.
pub(crate) async fn run_sql(kind: &str, url: &str, sql: &str) {
    let sql = sql.replace('{', "{{").replace('}', "}}");
    let origin = origin(&format!(
        "kind = '{kind}'\nurl = '{url}'\npassword = 'p w'\nload = '''{sql}'''\n"
    ));
    if let Err(failure) = load(&origin, "").await {
        panic!("{sql}: {failure}");
    }
}

/// Waits until a server that listens can be used.
pub(crate) async fn is_ready(kind: &str, url: &str) {
    let origin = origin(&format!(
        "kind = '{kind}'\nurl = '{url}'\npassword = 'p w'\nload = 'SELECT 1'\n\
         breaker-failures = 0\n"
    ));
    let since = tokio::time::Instant::now();
    while let Err(failure) = load(&origin, "").await {
        assert!(since.elapsed() < PATIENCE, "{failure}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
