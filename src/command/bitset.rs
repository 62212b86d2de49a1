//! Sets of flags, as one number.
//!
//! The table is built at compile time and names its flags in every row, so the sets must be
//! constants, with an order and names that are the protocol's.

/// Declares a set of flags: one bit each, with the name that the protocol gives it.
macro_rules! bitset {
    (
        $(#[$about:meta])*
        $set:ident($bits:ty) {
            $($(#[$doc:meta])* $flag:ident = $bit:literal $name:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $set($bits);

        impl $set {
            /// The empty set.
            pub const NONE: Self = Self(0);
            $($(#[$doc])* pub const $flag: Self = Self(1 << $bit);)*

            /// Every flag, in the order in which replies list them, with its name there.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$flag, $name),)*];

            /// Whether all of `other` is in this set.
            #[must_use]
            #[inline]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other` is in this set.
            #[must_use]
            #[inline]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Both sets in one.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// How many flags are in this set.
            #[must_use]
            pub const fn len(self) -> usize {
                self.0.count_ones() as usize
            }

            /// Whether no flag is in this set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The names of the flags in this set, in the order in which replies list them.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                let flags = Self::ALL.iter().filter(move |(flag, _)| self.contains(*flag));
                flags.map(|&(_, name)| name)
            }
        }
    };
}

pub(super) use bitset;
