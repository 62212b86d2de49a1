//! The locks and atomics on which the register of what is under way rests, so that a test can take
//! their place: with the feature `shuttle`, tests run on primitives that let a scheduler choose at
//! each of them who goes on (see `tests/interleavings.rs`).

#[cfg(not(all(test, feature = "shuttle")))]
mod chosen {
    pub(in crate::policy) use parking_lot::Mutex;
    pub(in crate::policy) use std::sync::atomic::AtomicBool;
}

#[cfg(all(test, feature = "shuttle"))]
mod chosen {
    pub(in crate::policy) use shuttle::sync::atomic::AtomicBool;

    /// With the methods of `parking_lot`'s.
    #[derive(Debug, Default)]
    pub(in crate::policy) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in crate::policy) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a test that panicked has failed")
        }
    }
}

pub(super) use chosen::{AtomicBool, Mutex};
