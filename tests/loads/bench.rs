//! A server with rules, and an origin that does what the test says.

use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use crate::common::{Client, TestServer, until};
use corral::policy::counts::Counts;

/// What the origin runs: it sees whether it is held, reads the value, takes a note of the key,
/// waits while it is held, and answers. Without a value there is none, and a failure has a file of
/// its own.
const PROGRAM: &str = r#"
if [ -e hold ]; then exec 3< hold; fi
if [ -e "values/$1" ]; then value=$(cat "values/$1"); else value=; fi
echo "$1" >> asked
if [ -e /dev/fd/3 ]; then flock -s 3; fi
if [ -e "fails/$1" ]; then exit 1; fi
if [ -z "$value" ]; then exit 66; fi
printf %s "$value"
"#;

/// What it runs to store a value: the same, and takes it.
const STORE: &str = r#"
if [ -e hold ]; then exec 3< hold; fi
cat > "values/$1"
echo "$1" >> asked
if [ -e /dev/fd/3 ]; then flock -s 3; fi
"#;

/// A server and its origin. The rule for `o:*` comes first, with the settings given; then that for
/// `l:*`, of leases.
pub(crate) struct Bench {
    pub(crate) server: TestServer,
    dir: TempDir,
    /// Locked while the origin is held.
    held: Option<File>,
}

impl Bench {
    /// With these lines more in the rule of the origin, and in that of the leases.
    pub(crate) fn with(of_origin: &str, of_leases: &str) -> Self {
        Self::of(of_origin, of_leases, &[])
    }

    /// The same with these settings.
    pub(crate) fn of(of_origin: &str, of_leases: &str, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        fs::write(path.join("load.sh"), PROGRAM).expect("a file");
        fs::write(path.join("store.sh"), STORE).expect("a file");
        for directory in ["values", "fails"] {
            fs::create_dir(path.join(directory)).expect("a directory");
        }
        let rules = format!(
            "[[origin]]\nname = \"o\"\nkind = \"command\"\ndirectory = {path:?}\n\
             load = [\"/bin/sh\", \"load.sh\", \"{{1}}\"]\n\
             store = [\"/bin/sh\", \"store.sh\", \"{{1}}\"]\nenvironment = [\"PATH\"]\n\
             queue = 100000\nbreaker-failures = 0\n\
             [[rule]]\nmatch = \"o:*\"\norigin = \"o\"\n{of_origin}\n\
             [[rule]]\nmatch = \"l:*\"\n{of_leases}\n"
        );
        let file = path.join("corral.toml");
        fs::write(&file, rules).expect("a file");
        let mut all = vec![("config", file.to_str().expect("text"))];
        all.extend_from_slice(settings);
        Self {
            server: TestServer::with(&all),
            dir,
            held: None,
        }
    }

    /// With an origin that has 60 s, and leases as long.
    pub(crate) fn start() -> Self {
        Self::with("timeout = \"60s\"", "lease = \"60s\"")
    }

    pub(crate) fn connect(&self) -> Client {
        self.server.connect()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives the origin a value.
    pub(crate) fn has(&self, key: &str, value: &str) {
        let path = self.path();
        // By a rename: nobody reads half of it.
        fs::write(path.join("next"), value).expect("a file");
        fs::rename(path.join("next"), path.join("values").join(key)).expect("a file");
    }

    /// Lets the origin fail for a key.
    pub(crate) fn fails(&self, key: &str) {
        fs::write(self.path().join("fails").join(key), "").expect("a file");
    }

    /// From now on, the origin does not answer.
    pub(crate) fn hold(&mut self) {
        let file = File::create(self.path().join("hold")).expect("a file");
        file.lock().expect("nobody else locks it alone");
        self.held = Some(file);
    }

    /// The same, of what is asked from now on; what was held before is until that is dropped.
    pub(crate) fn hold_apart(&mut self) -> Option<File> {
        fs::remove_file(self.path().join("hold")).expect("it was held");
        let before = self.held.take();
        self.hold();
        before
    }

    /// It answers again.
    pub(crate) fn release(&mut self) {
        fs::remove_file(self.path().join("hold")).expect("it was held");
        self.held = None;
    }

    /// How often the origin was asked.
    pub(crate) fn asked(&self) -> usize {
        let asked = fs::read_to_string(self.path().join("asked")).unwrap_or_default();
        asked.lines().count()
    }

    pub(crate) fn until_asked(&self, times: usize) {
        until("the origin was asked", || self.asked() >= times);
        assert_eq!(self.asked(), times, "asked more often than it should be");
    }

    /// What was counted for the rule of the origin.
    pub(crate) fn of_origin<R>(&self, look: impl Fn(&Counts) -> R) -> R {
        look(&self.server.instance.policy.table().rules()[0].counts)
    }

    /// What was counted for the rule of leases.
    pub(crate) fn of_leases<R>(&self, look: impl Fn(&Counts) -> R) -> R {
        look(&self.server.instance.policy.table().rules()[1].counts)
    }

    /// Waits until so many reads have waited for a lease.
    pub(crate) fn until_waits(&self, times: u64) {
        until("they wait for the lease", || {
            self.of_leases(|counts| counts.lease_waits.get()) >= times
        });
    }

    /// Waits until so many clients are connected.
    pub(crate) fn until_clients(&self, count: usize) {
        until("who left has left", || {
            self.server.instance.clients.len() == count
        });
    }
}
