//! The grammar of the stories: `grammar.txt`, read once.
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

/// Rows of words that belong together.
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<&'static str>>,
}

/// The words and lines of one plot, or those that all plots share.
#[derive(Default)]
pub(super) struct Section {
    pub(super) tables: Vec<Table>,
    /// The lines in the order of telling, each with its wordings.
    pub(super) lines: Vec<Vec<&'static str>>,
}

/// Everything the stories are made of.
pub(super) struct Grammar {
    /// Words open to every plot, and the lines with which every story begins.
    pub(super) shared: Section,
    pub(super) plots: Vec<Section>,
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
        names: [
            "Lily", "Mia", "Anna", "Sue", "Rose", "Lucy", "Emma", "Molly", "Daisy", "Bella",
            "Ruby", "Nora",
        ],
    },
    Gender {
        he: "he",
        him: "him",
        his: "his",
        child: "boy",
        names: [
            "Tom", "Tim", "Ben", "Sam", "Max", "Jack", "Leo", "Finn", "Toby", "Bob", "Hugo", "Fred",
        ],
    },
];

/// What a character is if it is not a child.
pub(super) const ANIMALS: [&str; 10] = [
    "rabbit", "fox", "bear", "mouse", "duck", "cat", "dog", "frog", "pig", "squirrel",
];

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

/// The grammar.
pub(super) static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
    let mut sections = parse(include_str!("grammar.txt")).into_iter();
    Grammar {
        shared: sections.next().unwrap_or_default(),
        plots: sections.collect(),
    }
});

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
            "@" => section
                .tables
                .extend(rest.split_once(" = ").map(|(columns, rows)| {
                    Table {
                        columns: columns.split(' ').collect(),
                        rows: rows
                            .split("; ")
                            .map(|row| row.split(", ").collect())
                            .collect(),
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_line_of_the_file_is_read() {
        let text = include_str!("grammar.txt");
        assert!(text.is_ascii());
        let count = |mark: &str| text.lines().filter(|line| line.starts_with(mark)).count();
        let sections = || GRAMMAR.plots.iter().chain([&GRAMMAR.shared]);
        assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), {
            count("# ") + count("@ ") + count("- ") + count("/ ")
        });
        assert_eq!(sections().count(), count("# "));
        assert_eq!(
            sections().map(|s| s.tables.len()).sum::<usize>(),
            count("@ ")
        );
        assert_eq!(
            sections()
                .flat_map(|s| &s.lines)
                .map(Vec::len)
                .sum::<usize>(),
            count("- ") + count("/ ")
        );
    }

    #[test]
    fn tables_are_rectangular_and_columns_have_one_home() {
        for plot in &GRAMMAR.plots {
            let mut names = HashSet::new();
            for table in GRAMMAR.shared.tables.iter().chain(&plot.tables) {
                assert!(
                    table.rows.len() >= 2,
                    "{:?}: two rows are drawn",
                    table.columns
                );
                assert!(
                    table
                        .rows
                        .iter()
                        .all(|row| row.len() == table.columns.len())
                );
                assert!(table.columns.iter().all(|column| names.insert(*column)));
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
