//! LOLWUT: a corral, a different one each time.
//!
//! A fence of posts and rails under a sky, and in it a herd that never touches the rails. The reply
//! ends with our version and the line `Redis ver. 7.0.15` that clients' tests look for. `VERSION 5`
//! and `VERSION 6` take the sizes they take in Redis, within its limits; other versions take none.

use std::fmt;

use super::numbers::parse_integer;

/// The version of Redis that corral answers as.
const REDIS_VERSION: &str = "7.0.15";

/// Draws what `LOLWUT [VERSION n] [sizes]` asks for.
///
/// The arguments are those behind the name. Equal seeds draw equal corrals.
pub fn draw(arguments: &[&[u8]], seed: u64) -> Result<String, NotAnInteger> {
    let size = Size::parse(arguments)?;
    let mut text = Scene::new(size, Dice(seed)).render();
    text.push_str("\ncorral ");
    text.push_str(env!("CARGO_PKG_VERSION"));
    text.push_str(", it holds the herd.\nRedis ver. ");
    text.push_str(REDIS_VERSION);
    text.push('\n');
    Ok(text)
}

/// An argument that should have been a number. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnInteger;

impl fmt::Display for NotAnInteger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ERR value is not an integer or out of range")
    }
}

/// A picture's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Size {
    const DEFAULT: Self = Self {
        columns: 66,
        rows: 12,
    };

    fn parse(arguments: &[&[u8]]) -> Result<Self, NotAnInteger> {
        let (version, sizes) = match arguments {
            [option, version, sizes @ ..] if option.eq_ignore_ascii_case(b"version") => {
                (parse_integer(version).ok_or(NotAnInteger)?, sizes)
            }
            sizes => (DEFAULT_VERSION, sizes),
        };
        match version {
            5 => {
                let columns = bounded(sizes.first(), 66, 1_000)?;
                let per_row = bounded(sizes.get(1), 8, 200)?;
                let per_column = bounded(sizes.get(2), 12, 200)?;
                // Redis draws squares on braille dots, which are half as wide as they are high.
                let rows = (columns * per_column / per_row / 2).clamp(1, MAX_ROWS);
                Ok(Self { columns, rows })
            }
            6 => {
                let columns = bounded(sizes.first(), 80, 1_000)?;
                let rows = bounded(sizes.get(1), 20, MAX_ROWS)?;
                Ok(Self { columns, rows })
            }
            _ => Ok(Self::DEFAULT),
        }
    }
}

/// A size as asked for, brought to between 1 and its maximum.
fn bounded(text: Option<&&[u8]>, default: usize, max: usize) -> Result<usize, NotAnInteger> {
    let Some(text) = text else { return Ok(default) };
    let number = parse_integer(text).ok_or(NotAnInteger)?;
    Ok(usize::try_from(number).unwrap_or(1).clamp(1, max))
}

/// The picture: from the top a sky, the back of the fence, the yard, the front of the fence.
struct Scene {
    size: Size,
    cells: Vec<char>,
    dice: Dice,
}

impl Scene {
    fn new(size: Size, dice: Dice) -> Self {
        let cells = vec![' '; size.columns * size.rows];
        let mut scene = Self { size, cells, dice };
        let sky = size.rows / 4;
        scene.scatter_stars(sky);
        scene.scatter_grass(sky);
        scene.fence(sky);
        scene.fence(size.rows - 1);
        scene.gather_herd(sky);
        scene
    }

    fn put(&mut self, column: usize, row: usize, character: char) {
        if column < self.size.columns && row < self.size.rows {
            self.cells[row * self.size.columns + column] = character;
        }
    }

    fn scatter_stars(&mut self, below: usize) {
        for row in 0..below {
            for column in 0..self.size.columns {
                if self.dice.below(24) == 0 {
                    let star = self.dice.pick(&['·', '.', '✦', '*']);
                    self.put(column, row, star);
                }
            }
        }
    }

    fn scatter_grass(&mut self, above: usize) {
        for row in above..self.size.rows {
            for column in 0..self.size.columns {
                if self.dice.below(18) == 0 {
                    let blade = self.dice.pick(&['\'', ',', '"', '`']);
                    self.put(column, row, blade);
                }
            }
        }
    }

    /// A rail with a post every few steps. One gap is the gate, always shut.
    fn fence(&mut self, row: usize) {
        let gate = self.dice.below(self.size.columns / POST_DISTANCE + 1);
        for column in 0..self.size.columns {
            let is_gate = column / POST_DISTANCE == gate;
            let character = match column % POST_DISTANCE {
                0 => '╫',
                _ if is_gate => '╪',
                _ => '═',
            };
            self.put(column, row, character);
        }
    }

    /// Tries a place for an animal many times, and settles it where it has room.
    fn gather_herd(&mut self, sky: usize) {
        let yard = self.size.rows.saturating_sub(sky + 2);
        let (Some(rows), Some(columns)) = (
            yard.checked_sub(ANIMAL_ROWS - 1),
            self.size.columns.checked_sub(ANIMAL_COLUMNS),
        ) else {
            return;
        };
        if rows == 0 {
            return;
        }
        let mut settled: Vec<(usize, usize)> = Vec::new();
        let wanted = (yard * self.size.columns / ROOM_PER_ANIMAL).clamp(1, MAX_HERD);
        for _ in 0..wanted * 2 {
            let place = (
                self.dice.below(columns + 1),
                sky + 1 + self.dice.below(rows),
            );
            let is_free = settled.iter().all(|&(column, row)| {
                column.abs_diff(place.0) > ANIMAL_COLUMNS || row.abs_diff(place.1) >= ANIMAL_ROWS
            });
            if is_free {
                settled.push(place);
                self.draw_animal(place);
            }
        }
    }

    fn draw_animal(&mut self, (left, top): (usize, usize)) {
        let animal = self.dice.pick(&[
            ["  ,__,", "~(  oo", " ||||\""],
            ["__,   ", "oo  )~", "\"||||"],
            ["  ,_^^", "~/__/'", " /\\ /\\"],
            ["^^_,  ", "'\\__\\~", "/\\ /\\ "],
        ]);
        for (row, line) in animal.iter().enumerate() {
            let outline = line.trim_start();
            let indent = line.len() - outline.len();
            for (column, character) in outline.trim_end().chars().enumerate() {
                self.put(left + indent + column, top + row, character);
            }
        }
    }

    fn render(&self) -> String {
        let mut text = String::with_capacity(self.cells.len() * 2);
        for row in self.cells.chunks(self.size.columns) {
            let line: String = row.iter().collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// SplitMix64: a picture needs no better dice.
struct Dice(u64);

impl Dice {
    /// A number from 0 to one below `sides`, which is at least 1.
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = mixed ^ (mixed >> 31);
        usize::try_from(mixed % sides as u64).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const DEFAULT_VERSION: i64 = 7;
const MAX_ROWS: usize = 1_000;
const POST_DISTANCE: usize = 8;

const ANIMAL_ROWS: usize = 3;
const ANIMAL_COLUMNS: usize = 6;
/// Characters of yard for each animal that is led in.
const ROOM_PER_ANIMAL: usize = 60;
/// A herd costs the square of its size.
const MAX_HERD: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(arguments: &[&[u8]]) -> Vec<String> {
        draw(arguments, 42)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_last_line_is_the_one_clients_look_for() {
        let versions: [&[&[u8]]; 5] = [
            &[],
            &[b"VERSION", b"5"],
            &[b"version", b"6"],
            &[b"version", b"-1"],
            &[b"version", b"5", b"1", b"1", b"1"],
        ];
        for arguments in versions {
            let text = draw(arguments, 1).unwrap();
            assert!(text.ends_with("\nRedis ver. 7.0.15\n"), "{text}");
            assert!(text.contains(concat!("\ncorral ", env!("CARGO_PKG_VERSION"), ",")));
        }
    }

    #[test]
    fn equal_seeds_draw_equal_corrals() {
        assert_eq!(draw(&[], 7), draw(&[], 7));
        assert_ne!(draw(&[], 7), draw(&[], 8));
    }

    #[test]
    fn sizes_are_brought_within_limits() {
        let size = |arguments: &[&[u8]]| Size::parse(arguments).unwrap();
        assert_eq!(
            size(&[b"version", b"6", b"30", b"10"]),
            Size {
                columns: 30,
                rows: 10
            }
        );
        assert_eq!(
            size(&[b"version", b"6", b"0", b"-5"]),
            Size {
                columns: 1,
                rows: 1
            }
        );
        let large: &[&[u8]] = &[b"version", b"6", b"1001", b"9223372036854775807"];
        assert_eq!(
            size(large),
            Size {
                columns: 1_000,
                rows: 1_000
            }
        );
        let tall: &[&[u8]] = &[b"version", b"5", b"9999", b"1", b"9999"];
        assert_eq!(
            size(tall),
            Size {
                columns: 1_000,
                rows: 1_000
            }
        );
        assert_eq!(size(&[b"ignored"]), Size::DEFAULT);
        assert_eq!(size(&[b"version"]), Size::DEFAULT);
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        for arguments in [
            &[&b"version"[..], b"x"][..],
            &[b"version", b"6", b"80", b"x"],
        ] {
            assert_eq!(draw(arguments, 1), Err(NotAnInteger));
        }
    }

    #[test]
    fn every_size_can_be_drawn() {
        for columns in 1..20_u32 {
            for rows in 1..20_u32 {
                let (columns, rows) = (columns.to_string(), rows.to_string());
                let picture =
                    lines(&[b"version", b"6", columns.as_bytes(), rows.as_bytes()]).len() - 3;
                assert_eq!(picture.to_string(), rows);
            }
        }
        assert_eq!(lines(&[b"version", b"6", b"1000", b"1000"]).len(), 1_003);
    }
}
