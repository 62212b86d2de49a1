//! What holds for all kinds of origins, with one that does what a test says.

use super::*;

/// What a test's origin does with a call.
type Answer = Box<dyn Fn() -> Step + Send + Sync>;

/// What it does next.
pub(super) enum Step {
    Answer(Result<Option<Found>, Failure>),
    Panic,
    Never,
}

pub(super) struct Fake(Answer);

impl Fake {
    pub(super) async fn run(&self, _: &Call<'_>) -> Result<Option<Found>, Failure> {
        match (self.0)() {
            Step::Answer(answer) => answer,
            Step::Panic => panic!("as the test wants it"),
            Step::Never => std::future::pending().await,
        }
    }
}
