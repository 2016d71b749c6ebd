//! Tells one story: draws its plot, its characters and its words, and writes it line by line.

use super::grammar::{ANIMALS, GENDERS, GRAMMAR, Gender, Section, Table};
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

struct Character {
    name: &'static str,
    kind: &'static str,
    gender: &'static Gender,
}

impl Character {
    fn draw(dice: &mut Dice, gender: &'static Gender, name: &'static str) -> Self {
        let kind = if dice.below(2) == 0 {
            gender.child
        } else {
            *dice.pick(&ANIMALS)
        };
        Self { name, kind, gender }
    }

    fn word(&self, slot: &str) -> Option<&'static str> {
        match slot {
            "kind" => Some(self.kind),
            "he" => Some(self.gender.he),
            "him" => Some(self.gender.him),
            "his" => Some(self.gender.his),
            _ => None,
        }
    }
}

/// What stays the same through a story.
struct Scene {
    hero: Character,
    friend: Character,
    /// Every table in reach with the numbers of its two drawn rows.
    drawn: Vec<(&'static Table, [usize; 2])>,
}

impl Scene {
    fn draw(dice: &mut Dice, plot: &'static Section) -> Self {
        let genders = [dice.pick(&GENDERS), dice.pick(&GENDERS)];
        // Two different numbers give two names, whether the genders differ or not.
        let names = dice.two_below(GENDERS[0].names.len());
        let [hero, friend] =
            [0, 1].map(|i| Character::draw(dice, genders[i], genders[i].names[names[i]]));
        let tables = GRAMMAR.shared.tables.iter().chain(&plot.tables);
        let drawn = tables
            .map(|table| (table, dice.two_below(table.rows.len())))
            .collect();
        Self {
            hero,
            friend,
            drawn,
        }
    }

    /// The word for a slot in small letters.
    fn word(&self, slot: &str) -> Option<&'static str> {
        if let Some(slot) = slot.strip_prefix("friend.") {
            return self.friend.word(slot);
        }
        match slot {
            "hero" => return Some(self.hero.name),
            "friend" => return Some(self.friend.name),
            _ => {}
        }
        self.hero.word(slot).or_else(|| {
            let (name, draw) = slot.strip_suffix('2').map_or((slot, 0), |name| (name, 1));
            self.drawn.iter().find_map(|(table, rows)| {
                let column = table.columns.iter().position(|column| *column == name)?;
                Some(table.rows[rows[draw]][column])
            })
        })
    }

    /// Appends the text with its slots filled. A slot without a word is left as it stands.
    fn write(&self, mut text: &str, out: &mut Vec<u8>) {
        while let Some((before, rest)) = text.split_once('{') {
            let (slot, after) = rest.split_once('}').unwrap_or((rest, ""));
            out.extend_from_slice(before.as_bytes());
            let start = out.len();
            match self.word(&slot.to_ascii_lowercase()) {
                Some(word) => self.write(word, out),
                None => out.extend_from_slice(format!("{{{slot}}}").as_bytes()),
            }
            if slot.starts_with(|first: char| first.is_ascii_uppercase()) {
                out[start..]
                    .iter_mut()
                    .take(1)
                    .for_each(|byte| byte.make_ascii_uppercase());
            }
            text = after;
        }
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends a story without its ending: lines joined by single spaces.
pub(super) fn tell(dice: &mut Dice, out: &mut Vec<u8>) {
    let plot = dice.pick(&GRAMMAR.plots);
    let scene = Scene::draw(dice, plot);
    for (i, wordings) in GRAMMAR.shared.lines.iter().chain(&plot.lines).enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        scene.write(dice.pick::<&str>(wordings), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn every_slot_of_every_wording_has_a_word() {
        let mut dice = Dice(ChaCha8Rng::from_seed([7; 32]));
        for plot in &GRAMMAR.plots {
            // Every row of a table of ten rows is drawn with a probability of 1 - 1e-9 in 200 scenes.
            for _ in 0..200 {
                let scene = Scene::draw(&mut dice, plot);
                for text in GRAMMAR.shared.lines.iter().chain(&plot.lines).flatten() {
                    let mut out = Vec::new();
                    scene.write(text, &mut out);
                    let out = String::from_utf8_lossy(&out).into_owned();
                    assert!(
                        out.is_ascii() && !out.contains(['{', '}']),
                        "{text} -> {out}"
                    );
                    assert!(!out.contains("  "), "{out}");
                    for vowel in ["a", "e", "i", "o", "u"] {
                        assert!(!out.contains(&format!(" a {vowel}")), "{out}");
                    }
                }
                assert_ne!(scene.hero.name, scene.friend.name);
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
        assert!(
            counts.iter().all(|&count| count.abs_diff(10_000) < 465),
            "{counts:?}"
        );
    }
}
