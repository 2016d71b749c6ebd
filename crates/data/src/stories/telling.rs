//! Tells one story: draws its plot, its characters and its words, and writes it line by line.

use super::grammar::{ANIMALS, CAST, GENDERS, PLOTS, Piece, Plot, Text};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A source of draws that stays the same over versions of the random number crates: the raw words of a counter-based
/// ChaCha8 stream and a reduction of our own.
pub(super) struct Dice(pub(super) ChaCha8Rng);

impl Dice {
    /// A number in 0..n: floor(word * n / 2^32) of the next 32-bit word. No number is favoured by more than n / 2^32.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Two different numbers in 0..n (equal where n is 1).
    fn two_below(&mut self, n: usize) -> [usize; 2] {
        let first = self.below(n);
        let step = 1 + self.below(n.saturating_sub(1).max(1));
        [first, (first + step) % n]
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// What stays the same through a story.
struct Scene {
    plot: &'static Plot,
    /// The words for the slots of [`CAST`].
    cast: [&'static str; CAST.len()],
    /// For every table of the plot the numbers of its two drawn rows.
    rows: Vec<[usize; 2]>,
}

impl Scene {
    fn draw(dice: &mut Dice, plot: &'static Plot) -> Self {
        let genders = [dice.pick(&GENDERS), dice.pick(&GENDERS)];
        // Two different numbers give two names, whether the genders differ or not.
        let names = dice.two_below(GENDERS[0].names.len());
        let mut cast = [""; CAST.len()];
        let halves = cast.chunks_exact_mut(CAST.len() / 2);
        for (slots, (gender, name)) in halves.zip(genders.into_iter().zip(names)) {
            let kind = if dice.below(2) == 0 { gender.child } else { *dice.pick(&ANIMALS) };
            slots.copy_from_slice(&[gender.names[name], kind, gender.he, gender.him, gender.his]);
        }
        let rows = plot.tables.iter().map(|table| dice.two_below(table.rows.len())).collect();
        Self { plot, cast, rows }
    }

    /// Appends the text with its slots filled.
    fn write(&self, text: &Text, out: &mut Vec<u8>) {
        for piece in text {
            let start = out.len();
            let capital = match *piece {
                Piece::Letters(letters) => {
                    out.extend_from_slice(letters.as_bytes());
                    false
                }
                Piece::Cast { place, capital } => {
                    out.extend_from_slice(self.cast[place].as_bytes());
                    capital
                }
                Piece::Cell { table, column, draw, capital } => {
                    self.write(&self.plot.tables[table].rows[self.rows[table][draw]][column], out);
                    capital
                }
            };
            if capital {
                out[start..].iter_mut().take(1).for_each(|byte| byte.make_ascii_uppercase());
            }
        }
    }
}

/// Appends a story without its ending: lines joined by single spaces.
pub(super) fn tell(dice: &mut Dice, out: &mut Vec<u8>) {
    let plot = dice.pick(&PLOTS);
    let scene = Scene::draw(dice, plot);
    for (i, wordings) in plot.lines.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        scene.write(dice.pick(wordings), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn every_wording_is_good_text() {
        let mut dice = Dice(ChaCha8Rng::from_seed([7; 32]));
        for plot in &*PLOTS {
            // Every row of a table of ten rows is drawn with a probability of 1 - 1e-9 in 200 scenes.
            for _ in 0..200 {
                let scene = Scene::draw(&mut dice, plot);
                assert_ne!(scene.cast[0], scene.cast[5], "hero and friend");
                for text in plot.lines.iter().flatten() {
                    let mut out = Vec::new();
                    scene.write(text, &mut out);
                    let out = String::from_utf8_lossy(&out).into_owned();
                    assert!(out.starts_with(|c: char| c.is_ascii_uppercase() || c == '"'), "{out}");
                    assert!(!out.contains("  ") && !out.contains(['{', '}']), "{out}");
                    for vowel in ["a", "e", "i", "o", "u"] {
                        assert!(!out.contains(&format!(" a {vowel}")), "{out}");
                    }
                }
            }
        }
    }

    #[test]
    fn draws_cover_their_range_evenly() {
        let mut dice = Dice(ChaCha8Rng::from_seed([3; 32]));
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[dice.below(7)] += 1;
            let [a, b] = dice.two_below(5);
            assert!(a != b && a < 5 && b < 5);
        }
        // Binomial: the standard deviation is sqrt(70000 * 1/7 * 6/7) = 93; five of them.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 465), "{counts:?}");
    }
}
