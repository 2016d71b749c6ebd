//! The grammar of the stories: `grammar.txt`, read and resolved once.
//!
//! The file is a list of sections; the first holds what all plots share, every other is one plot. A line of it is
//! - `# name`: a section begins;
//! - `@ a b = x, y; z, w`: a table with the columns `a` and `b` and the rows (x, y) and (z, w);
//! - `- text`: a line of the story; `/ text`: another wording of the line above.
//!
//! A story draws two different rows of every table. `{a}` in a text or word stands for column `a` of the first row
//! and `{a2}` for column `a` of the second; besides the tables there are `{hero}`, `{kind}`, `{he}`, `{him}`,
//! `{his}`, and `{friend}`, `{friend.kind}`, `{friend.he}` and so on. A slot with a capital begins with a capital.
//! All text is ASCII, and a word that may follow "a" starts with a consonant sound.

use std::sync::LazyLock;

/// A wording or a word, with its slots resolved.
pub(super) type Text = Vec<Piece>;

/// A part of a text.
pub(super) enum Piece {
    /// Letters as they stand.
    Letters(&'static str),
    /// A word of the cast, by its place in [`CAST`].
    Cast { place: usize, capital: bool },
    /// A word of a table; `draw` is 0 or 1 for the first or second drawn row.
    Cell { table: usize, column: usize, draw: usize, capital: bool },
}

/// The slots that the characters fill: those of the hero, then the same of the friend.
pub(super) const CAST: [&str; 10] =
    ["hero", "kind", "he", "him", "his", "friend", "friend.kind", "friend.he", "friend.him", "friend.his"];

/// Rows of words that belong together; there are at least two.
pub(super) struct Table {
    pub(super) rows: Vec<Vec<Text>>,
}

/// A plot with all it takes to tell it, the shared tables and lines first.
pub(super) struct Plot {
    pub(super) tables: Vec<Table>,
    /// The lines in the order of telling, each with its wordings.
    pub(super) lines: Vec<Vec<Text>>,
}

/// Pronouns of a character, its names, and what it is if it is a child.
pub(super) struct Gender {
    pub(super) he: &'static str,
    pub(super) him: &'static str,
    pub(super) his: &'static str,
    pub(super) child: &'static str,
    pub(super) names: [&'static str; 12],
}

/// The two genders; their names are disjoint.
pub(super) const GENDERS: [Gender; 2] = [
    Gender {
        he: "she",
        him: "her",
        his: "her",
        child: "girl",
        names: ["Lily", "Mia", "Anna", "Sue", "Rose", "Lucy", "Emma", "Molly", "Daisy", "Bella", "Ruby", "Nora"],
    },
    Gender {
        he: "he",
        him: "him",
        his: "his",
        child: "boy",
        names: ["Tom", "Tim", "Ben", "Sam", "Max", "Jack", "Leo", "Finn", "Toby", "Bob", "Hugo", "Fred"],
    },
];

/// What a character is if it is not a child.
pub(super) const ANIMALS: [&str; 10] =
    ["rabbit", "fox", "bear", "mouse", "duck", "cat", "dog", "frog", "pig", "squirrel"];

/// The sentences with which stories end. Entry i has i + [`SHORTEST_ENDING`] bytes with the space before it, so that
/// the last story of a chunk can be made to end exactly where the chunk ends.
pub(super) const ENDINGS: [&str; 14] = [
    "All was well.",
    "They all sang.",
    "They felt good.",
    "They were happy.",
    "It was a fun day.",
    "It was a good day.",
    "Everyone was happy.",
    "They were all happy.",
    "They had so much fun.",
    "They laughed and sang.",
    "They smiled and smiled.",
    "They were happy all day.",
    "It was the best day ever.",
    "Then they went home happy.",
];

/// Bytes of the shortest of [`ENDINGS`] with the space before it.
pub(super) const SHORTEST_ENDING: usize = 14;

/// Every plot of the grammar.
pub(super) static PLOTS: LazyLock<Vec<Plot>> = LazyLock::new(|| {
    let sections = parse(include_str!("grammar.txt"));
    match sections.split_first() {
        Some((shared, plots)) => plots.iter().map(|plot| compile(shared, plot)).collect(),
        None => Vec::new(),
    }
});

/// A table as it is written: columns and rows.
type RawTable = (Vec<&'static str>, Vec<Vec<&'static str>>);

/// A section as it is written.
#[derive(Default)]
struct Section {
    tables: Vec<RawTable>,
    lines: Vec<Vec<&'static str>>,
}

fn parse(text: &'static str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (mark, rest) in text.lines().filter_map(|line| line.split_once(' ')) {
        if mark == "#" {
            sections.push(Section::default());
            continue;
        }
        let Some(section) = sections.last_mut() else {
            continue;
        };
        match mark {
            "@" => section.tables.extend(rest.split_once(" = ").map(|(columns, rows)| {
                let rows = rows.split("; ").map(|row| row.split(", ").collect());
                (columns.split(' ').collect(), rows.collect())
            })),
            "-" => section.lines.push(vec![rest]),
            _ => {
                if let Some(line) = section.lines.last_mut() {
                    line.push(rest);
                }
            }
        }
    }
    sections
}

fn compile(shared: &Section, plot: &Section) -> Plot {
    let tables: Vec<&RawTable> = shared.tables.iter().chain(&plot.tables).collect();
    let texts = |texts: &Vec<&'static str>| texts.iter().map(|text| resolve(text, &tables)).collect();
    Plot {
        tables: tables.iter().map(|(_, rows)| Table { rows: rows.iter().map(texts).collect() }).collect(),
        lines: shared.lines.iter().chain(&plot.lines).map(texts).collect(),
    }
}

/// Cuts a text into pieces.
fn resolve(mut text: &'static str, tables: &[&RawTable]) -> Text {
    let mut pieces = Vec::new();
    while let Some((before, rest)) = text.split_once('{') {
        let (slot, after) = rest.split_once('}').unwrap_or((rest, ""));
        pieces.push(Piece::Letters(before));
        pieces.push(resolve_slot(slot, tables));
        text = after;
    }
    pieces.push(Piece::Letters(text));
    pieces
}

/// The piece for a slot; one that nothing fills stays in the text by its name.
fn resolve_slot(slot: &'static str, tables: &[&RawTable]) -> Piece {
    let capital = slot.starts_with(|first: char| first.is_ascii_uppercase());
    let slot_name = slot.to_ascii_lowercase();
    if let Some(place) = CAST.iter().position(|name| *name == slot_name) {
        return Piece::Cast { place, capital };
    }
    let (name, draw) = slot_name.strip_suffix('2').map_or((&*slot_name, 0), |name| (name, 1));
    let cell = tables.iter().enumerate().find_map(|(table, (columns, _))| {
        let column = columns.iter().position(|column| *column == name)?;
        Some(Piece::Cell { table, column, draw, capital })
    });
    cell.unwrap_or(Piece::Letters(slot))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const FILE: &str = include_str!("grammar.txt");

    #[test]
    fn every_line_of_the_file_is_read() {
        assert!(FILE.is_ascii());
        let count = |mark: &str| FILE.lines().filter(|line| line.starts_with(mark)).count();
        assert_eq!(
            FILE.lines().filter(|line| !line.is_empty()).count(),
            count("# ") + count("@ ") + count("- ") + count("/ ")
        );
        let sections = parse(FILE);
        assert_eq!(sections.len(), count("# "));
        assert_eq!(sections.iter().map(|s| s.tables.len()).sum::<usize>(), count("@ "));
        assert_eq!(sections.iter().flat_map(|s| &s.lines).map(Vec::len).sum::<usize>(), count("- ") + count("/ "));
    }

    #[test]
    fn tables_are_rectangular_and_columns_have_one_home() {
        let sections = parse(FILE);
        let (shared, plots) = sections.split_first().unwrap();
        for plot in plots {
            let mut names: HashSet<&str> = CAST.into();
            for (columns, rows) in shared.tables.iter().chain(&plot.tables) {
                assert!(rows.len() >= 2, "{columns:?}: two rows are drawn");
                assert!(rows.iter().all(|row| row.len() == columns.len()), "{columns:?}");
                assert!(columns.iter().all(|column| names.insert(column)), "{columns:?}");
            }
        }
    }

    #[test]
    fn every_slot_is_filled() {
        let sections = parse(FILE);
        for plot in &sections[1..] {
            let tables: Vec<&RawTable> = sections[0].tables.iter().chain(&plot.tables).collect();
            let words = tables.iter().flat_map(|(_, rows)| rows).flatten();
            for text in words.chain(sections[0].lines.iter().chain(&plot.lines).flatten()) {
                let letters = |piece: &Piece| match piece {
                    Piece::Letters(letters) => letters.len(),
                    _ => 0,
                };
                let outside = text.split('{').map(|part| part.split_once('}').map_or(part, |(_, after)| after));
                assert_eq!(
                    resolve(text, &tables).iter().map(letters).sum::<usize>(),
                    outside.map(str::len).sum::<usize>(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn endings_have_consecutive_lengths() {
        for (i, ending) in ENDINGS.iter().enumerate() {
            assert_eq!(1 + ending.len(), i + SHORTEST_ENDING, "{ending}");
        }
    }
}
