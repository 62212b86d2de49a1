//! LCS: the longest common subsequence of two strings, and where it lies in them.
//!
//! The plain dynamic programme: a table of the lengths for every pair of prefixes, walked back from
//! its last cell. Of several longest subsequences the walk finds the one Redis finds. The table is
//! the cost, in time and in space, so it is bounded before it is made; the length alone is computed
//! in two rows, under the same bound, since the time is the same.

use std::fmt;
use std::ops::RangeInclusive;

/// The longest common subsequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lcs {
    /// The subsequence itself.
    pub bytes: Vec<u8>,
    /// The runs it is made of, from the strings' ends to their starts, as IDX replies them.
    pub matches: Vec<Match>,
}

/// A run of bytes that both strings have, and that belongs to the subsequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where it is in the first string.
    pub a: RangeInclusive<usize>,
    /// Where it is in the second string; as long.
    pub b: RangeInclusive<usize>,
}

impl Match {
    /// How many bytes the run has: at least one. What MINMATCHLEN is compared with.
    pub fn byte_len(&self) -> usize {
        self.a.end() - self.a.start() + 1
    }
}

/// Why no subsequence was computed. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LcsError {
    /// A string is so long that lengths would not fit in 32 bits.
    StringTooLong,
    /// The table would be larger than allowed.
    TableTooLarge,
    /// There is no memory for the table.
    OutOfMemory,
}

impl fmt::Display for LcsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::StringTooLong => "ERR String too long for LCS",
            Self::TableTooLarge => {
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
            }
            Self::OutOfMemory => {
                "ERR Insufficient memory, failed allocating transient memory for LCS"
            }
        })
    }
}

/// The length of the longest common subsequence.
///
/// `max_table_bytes` is what the whole table may take, though only two rows are kept.
pub fn length(a: &[u8], b: &[u8], max_table_bytes: u64) -> Result<u32, LcsError> {
    check_size(a, b, max_table_bytes)?;
    let width = b.len() + 1;
    let mut above = zeros(width)?;
    let mut row = zeros(width)?;
    for &byte in a {
        fill_row(&mut row, &above, byte, b);
        std::mem::swap(&mut row, &mut above);
    }
    Ok(above.last().copied().unwrap_or(0))
}

/// The longest common subsequence and its runs, with a table of at most `max_table_bytes`.
pub fn longest(a: &[u8], b: &[u8], max_table_bytes: u64) -> Result<Lcs, LcsError> {
    let cells = check_size(a, b, max_table_bytes)?;
    let width = b.len() + 1;
    let mut table = zeros(cells)?;
    for (index, &byte) in a.iter().enumerate() {
        let (above, below) = table.split_at_mut((index + 1) * width);
        fill_row(&mut below[..width], &above[index * width..], byte, b);
    }
    Ok(walk_back(a, b, &table))
}

/// Fills the row of one more byte of `a`, given the row above it. Its first cell stays zero.
fn fill_row(row: &mut [u32], above: &[u32], byte: u8, b: &[u8]) {
    let mut left = 0;
    for ((cell, above), &other) in row[1..].iter_mut().zip(above.windows(2)).zip(b) {
        left = if byte == other {
            above[0] + 1
        } else {
            left.max(above[1])
        };
        *cell = left;
    }
}

/// Follows the table from its last cell to the start of either string.
fn walk_back(a: &[u8], b: &[u8], table: &[u32]) -> Lcs {
    let cell = |i: usize, j: usize| table[i * (b.len() + 1) + j];
    let mut lcs = Lcs::default();
    let mut run: Option<Match> = None;
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            i -= 1;
            j -= 1;
            lcs.bytes.push(a[i]);
            // The step before led here from (i + 1, j + 1), so a run under way is extended.
            let (a_end, b_end) = run.map_or((i, j), |run| (*run.a.end(), *run.b.end()));
            run = Some(Match {
                a: i..=a_end,
                b: j..=b_end,
            });
        } else {
            if cell(i - 1, j) > cell(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
            lcs.matches.extend(run.take());
        }
    }
    lcs.matches.extend(run);
    lcs.bytes.reverse();
    lcs
}

/// How many cells the table has, if it is allowed to be made.
fn check_size(a: &[u8], b: &[u8], max_table_bytes: u64) -> Result<usize, LcsError> {
    if a.len().max(b.len()) >= MAX_STRING_BYTES {
        return Err(LcsError::StringTooLong);
    }
    let cells = (a.len() as u64 + 1).checked_mul(b.len() as u64 + 1);
    let bytes = cells.and_then(|cells| cells.checked_mul(CELL_BYTES));
    match (bytes, cells.and_then(|cells| usize::try_from(cells).ok())) {
        (Some(bytes), Some(cells)) if bytes <= max_table_bytes => Ok(cells),
        (Some(_), Some(_)) => Err(LcsError::TableTooLarge),
        (_, _) => Err(LcsError::OutOfMemory),
    }
}

fn zeros(len: usize) -> Result<Vec<u32>, LcsError> {
    let mut cells = Vec::new();
    cells
        .try_reserve_exact(len)
        .map_err(|_| LcsError::OutOfMemory)?;
    cells.resize(len, 0);
    Ok(cells)
}

/// Redis refuses strings from this length on, a little below what 32 bits can count.
const MAX_STRING_BYTES: usize = u32::MAX as usize - 1;

const CELL_BYTES: u64 = size_of::<u32>() as u64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_LIMIT: u64 = u64::MAX;

    #[test]
    fn the_subsequence_and_its_runs_are_found() {
        let lcs = longest(b"ohmytext", b"mynewtext", NO_LIMIT).unwrap();
        assert_eq!(lcs.bytes, b"mytext");
        assert_eq!(
            lcs.matches,
            [Match { a: 4..=7, b: 5..=8 }, Match { a: 2..=3, b: 0..=1 }]
        );
        assert_eq!(lcs.matches[0].byte_len(), 4);
        assert_eq!(length(b"ohmytext", b"mynewtext", NO_LIMIT), Ok(6));
    }

    #[test]
    fn strings_with_nothing_in_common_have_an_empty_one() {
        for (a, b) in [
            (&b""[..], &b""[..]),
            (b"", b"abc"),
            (b"abc", b""),
            (b"abc", b"xyz"),
        ] {
            assert_eq!(longest(a, b, NO_LIMIT), Ok(Lcs::default()));
            assert_eq!(length(a, b, NO_LIMIT), Ok(0));
        }
    }

    #[test]
    fn equal_strings_are_one_run() {
        let lcs = longest(b"same", b"same", NO_LIMIT).unwrap();
        assert_eq!(lcs.bytes, b"same");
        assert_eq!(lcs.matches, [Match { a: 0..=3, b: 0..=3 }]);
    }

    #[test]
    fn the_table_is_bounded_before_it_is_made() {
        let bytes = 4 * (3 + 1) * (5 + 1);
        assert!(longest(b"abc", b"abcde", bytes).is_ok());
        assert_eq!(
            longest(b"abc", b"abcde", bytes - 1),
            Err(LcsError::TableTooLarge)
        );
        assert_eq!(
            length(b"abc", b"abcde", bytes - 1),
            Err(LcsError::TableTooLarge)
        );
    }

    proptest! {
        #[test]
        fn the_runs_spell_the_subsequence_in_both_strings(a in "[a-c]{0,20}", b in "[a-c]{0,20}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let lcs = longest(a, b, NO_LIMIT).unwrap();
            let runs = || lcs.matches.iter().rev();
            let in_a: Vec<u8> = runs().flat_map(|run| &a[run.a.clone()]).copied().collect();
            let in_b: Vec<u8> = runs().flat_map(|run| &b[run.b.clone()]).copied().collect();
            prop_assert_eq!(&in_a, &lcs.bytes);
            prop_assert_eq!(&in_b, &lcs.bytes);
            prop_assert_eq!(length(a, b, NO_LIMIT), Ok(u32::try_from(lcs.bytes.len()).unwrap()));
            let is_backwards = |pair: &[Match]| {
                pair[0].a.start() > pair[1].a.end() && pair[0].b.start() > pair[1].b.end()
            };
            prop_assert!(lcs.matches.windows(2).all(is_backwards));
        }
    }
}
