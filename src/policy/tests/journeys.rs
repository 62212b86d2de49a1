//! Loads, and what may happen to their keys meanwhile, with an origin that does what a test says.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::*;
use crate::keyspace::{Place, View};
use crate::origin::Failure;
use crate::store::Write;

const KEY: &[u8] = b"k";
const TIMEOUT: Duration = Duration::from_millis(100);
const RULE: &str = "[[origin]]\nname = 'o'\nkind = 'command'\nload = ['true']\n\
    [[rule]]\nmatch = '*'\norigin = 'o'\nttl = '1h'\njitter = 0.0\nbeta = 0\n\
    timeout = '100ms'\nnegative-ttl = '0'\nerror-ttl = '0'\n";

/// A policy whose loads run on the runtime of the test.
fn policy(answer: impl Fn() -> Step + Send + Sync + 'static) -> Arc<Policy> {
    policy_on(Handle::current(), RULE, answer)
}

fn view<R>(policy: &Policy, key: &[u8], with: impl FnOnce(&mut View<'_>, Place<'_>) -> R) -> R {
    let key = policy.store.key(key);
    let mut view = View::new(policy.store.lock(key.hash), clock::unix_ms());
    with(&mut view, Place { db: 0, key })
}

fn stored(policy: &Policy, key: &[u8]) -> Option<Bytes> {
    view(policy, key, |view, place| {
        let entry = view.read(place)?;
        Some(Bytes::copy_from_slice(entry.value()))
    })
}

fn missed(policy: &Arc<Policy>, key: &[u8]) -> Miss {
    let mut asker = Asker {
        client: 1,
        leases: &mut Leases::default(),
        may_wait: true,
    };
    let table = policy.table();
    view(policy, key, |view, place| {
        policy.miss(&table, view, place, &mut asker)
    })
}

type Got = Result<Option<Bytes>, Arc<str>>;

/// A read, as GET does it.
async fn read(policy: &Arc<Policy>, key: &[u8]) -> Got {
    if let Some(value) = stored(policy, key) {
        return Ok(Some(value));
    }
    let wait = match missed(policy, key) {
        Miss::Nil => return Ok(None),
        Miss::Failed(text) => return Err(text),
        Miss::Wait(wait) => wait,
        Miss::Stale => panic!("the rule says nothing of stale values"),
    };
    let arrived = wait.end(&mut Leases::default()).await;
    if let Some(value) = stored(policy, key) {
        return Ok(Some(value));
    }
    match arrived.outcome {
        Outcome::Value(value) => Ok(Some(value)),
        Outcome::Absent | Outcome::Again => Ok(None),
        Outcome::Failed(text) => Err(text),
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_or_never_answers_frees_its_key() {
    for panics in [true, false] {
        let policy = policy(move || if panics { Step::Panic } else { Step::Never });
        let since = Instant::now();
        assert!(read(&policy, KEY).await.is_err());
        let waited = since.elapsed();
        assert!(waited <= TIMEOUT + TICK, "{waited:?}");
        sleep(TIMEOUT * 4).await;
        assert_eq!(policy.under_way(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_nobody_waits_for_any_more_is_stored() {
    let later = || {
        let answer = Step::Answer(Ok(Some(value(1))));
        Step::Later(TIMEOUT * 2, Box::new(answer), Box::new(()))
    };
    let policy = policy(later);
    assert!(read(&policy, KEY).await.is_err(), "in time");
    sleep(TIMEOUT + TICK).await;
    assert_eq!(stored(&policy, KEY), Some(value(1).value));
}

#[tokio::test(start_paused = true)]
async fn one_load_more_than_may_be_under_way_fails_at_once_and_has_room_when_they_are_over() {
    let policy = policy(|| Step::Never);
    let table = policy.table();
    for number in 0..reads::WORKS_MAX / 2 {
        let key = number.to_le_bytes();
        assert!(matches!(missed(&policy, &key), Miss::Wait(_)));
        let began = policy.elsewhere(&table.rules()[0], (1, &key), clock::now());
        assert!(matches!(began, Elsewhere::Wait(_, Some(_))));
    }
    assert!(matches!(missed(&policy, KEY), Miss::Failed(_)));
    let refused = policy.elsewhere(&table.rules()[0], (1, KEY), clock::now());
    assert!(matches!(refused, Elsewhere::Failed(_)));
    assert!(
        matches!(missed(&policy, &0_usize.to_le_bytes()), Miss::Wait(_)),
        "one that is under way may be joined"
    );
    sleep(TIMEOUT * 4 + TICK).await;
    assert_eq!(policy.under_way(), 0);
    assert!(matches!(missed(&policy, KEY), Miss::Wait(_)));
}

/// The clock of the runtime counts whole ms, and rounds up.
const TICK: Duration = Duration::from_millis(1);

/// What an origin does with a call after that many ms.
#[derive(Clone, Copy, Debug)]
enum End {
    Value,
    Absent,
    Fails,
    Panics,
    Never,
}

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    /// Somebody reads the key.
    Read,
    /// Somebody does, and goes after that many ms.
    Abandon(u64),
    /// The value changes at its origin, and then its key is removed.
    Remove,
    /// The same, and the key is written.
    Set,
    Flush,
    Pass(u64),
}

/// The origin: its value is the number of its version.
#[derive(Default)]
struct Source {
    version: usize,
    /// How each of the next calls ends.
    plan: VecDeque<(u64, End)>,
    /// Of each load under way, the version when it began.
    under_way: Vec<usize>,
    wrong: Vec<String>,
}

/// Held by a load under way.
struct UnderWay(Arc<Mutex<Source>>, usize);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut source = self.0.lock();
        let mine = source.under_way.iter().position(|began| *began == self.1);
        source.under_way.swap_remove(mine.unwrap());
    }
}

fn answer(source: &Arc<Mutex<Source>>) -> Step {
    let mut locked = source.lock();
    let version = locked.version;
    if locked.under_way.contains(&version) {
        locked.wrong.push(format!("two loads of version {version}"));
    }
    locked.under_way.push(version);
    let (after_ms, end) = locked.plan.pop_front().unwrap_or((1, End::Value));
    let step = match end {
        End::Value => Step::Answer(Ok(Some(value(version)))),
        End::Absent => Step::Answer(Ok(None)),
        End::Fails => Step::Answer(Err(Failure::crashed())),
        End::Panics => Step::Panic,
        End::Never => Step::Never,
    };
    drop(locked);
    let held = Box::new(UnderWay(Arc::clone(source), version));
    Step::Later(Duration::from_millis(after_ms), Box::new(step), held)
}

/// A read, and what is wrong with what it got: what began after a change never gets what was loaded
/// before it, and nobody waits for longer than the rule says.
async fn checked_read(policy: Arc<Policy>, source: Arc<Mutex<Source>>) {
    let (floor, since) = (source.lock().version, Instant::now());
    let got = read(&policy, KEY).await;
    let waited = since.elapsed();
    let mut source = source.lock();
    if waited > TIMEOUT + TICK {
        source.wrong.push(format!("waited for {waited:?}"));
    }
    if let Ok(Some(value)) = got {
        let version: usize = std::str::from_utf8(&value).unwrap().parse().unwrap();
        if version < floor {
            source.wrong.push(format!("{version} after {floor}"));
        }
    }
}

/// Changes the value at its origin and then here, as a client does that keeps both true.
fn change(policy: &Arc<Policy>, source: &Arc<Mutex<Source>>, event: &Event) {
    let version = {
        let mut source = source.lock();
        source.version += 1;
        source.version.to_string()
    };
    if matches!(event, Event::Flush) {
        let mut view = View::new(policy.store.lock_all(), clock::unix_ms());
        drop(view.clear(None));
        return;
    }
    view(policy, KEY, |view, place| {
        if matches!(event, Event::Remove) {
            view.remove(place);
        } else {
            let write = Write {
                value: version.as_bytes(),
                ..Write::default()
            };
            view.write(place, write).unwrap();
        }
    });
}

async fn run(plan: Vec<(u64, End)>, events: Vec<Event>) -> Vec<String> {
    let source = Arc::new(Mutex::new(Source::default()));
    source.lock().plan.extend(plan);
    let of_origin = Arc::clone(&source);
    let policy = policy(move || answer(&of_origin));
    let mut readers = Vec::new();
    for event in &events {
        let reader = || checked_read(Arc::clone(&policy), Arc::clone(&source));
        match event {
            Event::Read => readers.push(tokio::spawn(reader())),
            Event::Abandon(ms) => {
                let patience = Duration::from_millis(*ms);
                let left = tokio::time::timeout(patience, reader());
                readers.push(tokio::spawn(async move { drop(left.await) }));
            }
            Event::Remove | Event::Set | Event::Flush => change(&policy, &source, event),
            Event::Pass(ms) => sleep(Duration::from_millis(*ms)).await,
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    sleep(TIMEOUT * 4 + TICK).await;
    let mut source = source.lock();
    if policy.under_way() != 0 || !source.under_way.is_empty() {
        source.wrong.push("something is under way still".to_owned());
    }
    if let Some(value) = stored(&policy, KEY)
        && value != source.version.to_string()
    {
        source.wrong.push(format!("{value:?} stays"));
    }
    std::mem::take(&mut source.wrong)
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Read),
        2 => (0..40_u64).prop_map(Event::Abandon),
        1 => Just(Event::Remove),
        1 => Just(Event::Set),
        1 => Just(Event::Flush),
        6 => (0..60_u64).prop_map(Event::Pass),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Value),
        2 => Just(End::Absent),
        2 => Just(End::Fails),
        1 => Just(End::Panics),
        1 => Just(End::Never),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_happens_one_load_is_under_way_and_nothing_old_is_served_or_stays(
        plan in prop::collection::vec((0..120_u64, end()), 0..20),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let wrong = runtime.block_on(run(plan, events));
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }
}
