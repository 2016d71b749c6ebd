//! The file of a study, resolved: arms, each with the settings of its runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use crate::{
    TrainError,
    settings::{Settings, read_toml, shown},
};

const SECTIONS: [&str; 4] = ["study", "base", "arm", "grid"];
const KEYS: [&str; 2] = ["name", "seeds"];
const SEED: (&str, &str) = ("train", "seed");

/// A study: what its file says, resolved and checked.
#[derive(Clone, Debug)]
pub struct Study {
    /// Its name.
    pub name: String,
    /// The seeds of every arm, all different.
    pub seeds: Vec<u64>,
    /// At least one; the first is what the others are compared with.
    pub arms: Vec<Arm>,
}

/// An arm: settings that are run with every seed.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its name, different from those of all other arms.
    pub name: String,
    /// The name of its folder, different likewise.
    pub folder: String,
    /// The settings of its runs, in the order of the seeds.
    pub runs: Vec<Settings>,
}

/// What the file says of an arm: its name, and tables of sections with their origins, in rising precedence.
struct Given {
    name: String,
    tables: Vec<(String, Table)>,
}

impl Study {
    /// Reads a study's file and resolves the settings of every run.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML; unknown sections or keys; no seeds, or one twice; no arms, or two of
    /// one name or folder; settings that [`Settings::resolve`] refuses, with the arm's name; arms that are not
    /// evaluated on the same windows.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let file = File { table: read_toml(path)?, path: path.to_owned() };
        file.check_names(&file.table, "", &SECTIONS, "section")?;
        let head = file.table("study")?;
        file.check_names(&head, "study.", &KEYS, "key")?;
        let name = file.name(head.get("name"), "study.name")?;
        let seeds = file.seeds(head.get("seeds"))?;
        let arms = file.arms()?.into_iter().map(|arm| arm.resolve(&seeds, path)).collect::<Result<Vec<_>, _>>()?;
        file.check_folders(&arms)?;
        for arm in &arms[1..] {
            same_windows(&arms[0], arm)?;
        }
        Ok(Self { name, seeds, arms })
    }
}

impl Given {
    fn resolve(self, seeds: &[u64], path: &Path) -> Result<Arm, TrainError> {
        let of_arm = |source| TrainError::Arm { arm: self.name.clone(), source: Box::new(source) };
        let run = |&seed: &u64| {
            let mut tables = self.tables.clone();
            let seed = Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX));
            tables.push((format!("{}, study.seeds", path.display()), section(SEED.0, SEED.1, seed)));
            Settings::from_tables(&tables)
        };
        let runs = seeds.iter().map(run).collect::<Result<_, _>>().map_err(of_arm)?;
        Ok(Arm { folder: folder_name(&self.name), name: self.name, runs })
    }
}

/// The file as it was read.
struct File {
    table: Table,
    path: PathBuf,
}

impl File {
    fn error(&self, name: &str, expected: &str, got: Option<&Value>) -> TrainError {
        TrainError::Setting {
            name: name.to_owned(),
            expected: expected.to_owned(),
            got: got.map_or_else(|| "none".to_owned(), shown),
            origin: self.path.display().to_string(),
        }
    }

    fn check_names(&self, table: &Table, prefix: &str, known: &[&str], what: &'static str) -> Result<(), TrainError> {
        let Some(name) = table.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
        Err(TrainError::UnknownSetting {
            name: format!("{prefix}{}", name.escape_debug()),
            what,
            nearest: nearest.map(|nearest| format!("{prefix}{nearest}")).unwrap_or_default(),
            origin: self.path.display().to_string(),
        })
    }

    /// A section of the file, empty if it is not there.
    fn table(&self, name: &str) -> Result<Table, TrainError> {
        match self.table.get(name) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table.clone()),
            Some(other) => Err(self.error(name, "a section", Some(other))),
        }
    }

    fn name(&self, value: Option<&Value>, key: &str) -> Result<String, TrainError> {
        let name = value.and_then(Value::as_str).filter(|name| !folder_name(name).is_empty());
        let printable = name.filter(|name| !name.contains(char::is_control));
        printable.map(str::to_owned).ok_or_else(|| self.error(key, "a name of letters or digits on one line", value))
    }

    fn seeds(&self, value: Option<&Value>) -> Result<Vec<u64>, TrainError> {
        let wrong = || self.error("study.seeds", "a list of different integers >= 0", value);
        let list = value.and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(wrong)?;
        let seed = |value: &Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
        let seeds: Vec<u64> = list.iter().map(seed).collect::<Option<_>>().ok_or_else(wrong)?;
        let twice = (1..seeds.len()).any(|i| seeds[..i].contains(&seeds[i]));
        if twice { Err(wrong()) } else { Ok(seeds) }
    }

    /// Every `[[arm]]` with every combination of the grid.
    fn arms(&self) -> Result<Vec<Given>, TrainError> {
        let wrong = |value| self.error("arm", "at least one [[arm]]", value);
        let value = self.table.get("arm");
        let list = value.and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(|| wrong(value))?;
        let (base, grid) = (self.table("base")?, self.grid()?);
        let origin = |what: &str| format!("{}, {what}", self.path.display());
        self.seedless(&base, &origin("[base]"))?;
        let mut arms: Vec<Given> = Vec::new();
        for arm in list {
            let Value::Table(sections) = arm else { return Err(wrong(value)) };
            let mut sections = sections.clone();
            let name = self.name(sections.remove("name").as_ref(), "arm.name")?;
            self.seedless(&sections, &origin(&format!("arm {name}")))?;
            for (suffix, cell) in &grid {
                let name = format!("{name}{suffix}");
                if arms.iter().any(|arm| arm.name == name) {
                    return Err(self.error("arm.name", "a name that no other arm has", Some(&Value::String(name))));
                }
                let tables = vec![
                    (origin("[base]"), base.clone()),
                    (origin("[[arm]]"), sections.clone()),
                    (origin("[grid]"), cell.clone()),
                ];
                arms.push(Given { name, tables });
            }
        }
        Ok(arms)
    }

    /// The cells of the grid: what each appends to an arm's name, and its settings.
    fn grid(&self) -> Result<Vec<(String, Table)>, TrainError> {
        let mut cells = vec![(String::new(), Table::new())];
        for (key, values) in &self.table("grid")? {
            let full = format!("grid.{key}");
            let Some((of, name)) = key.split_once('.') else {
                return Err(self.error(&full, "\"section.key\" = [values]", Some(values)));
            };
            let list = values.as_array().filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| self.error(&full, "a list of values", Some(values)))?;
            if (of, name) == SEED {
                return Err(self.seed_error(values, &format!("{}, [grid]", self.path.display())));
            }
            let multiplied = cells.iter().flat_map(|(suffix, table)| {
                list.iter().map(move |value| {
                    let mut table = table.clone();
                    let keys = table.entry(of).or_insert_with(|| Value::Table(Table::new()));
                    if let Value::Table(keys) = keys {
                        keys.insert(name.to_owned(), value.clone());
                    }
                    (format!("{suffix} {key}={}", bare(value)), table)
                })
            });
            cells = multiplied.collect();
        }
        Ok(cells)
    }

    /// Checks that the seed is left to the study.
    fn seedless(&self, sections: &Table, origin: &str) -> Result<(), TrainError> {
        match sections.get(SEED.0).and_then(|keys| keys.get(SEED.1)) {
            Some(seed) => Err(self.seed_error(seed, origin)),
            None => Ok(()),
        }
    }

    fn seed_error(&self, got: &Value, origin: &str) -> TrainError {
        TrainError::Setting {
            name: format!("{}.{}", SEED.0, SEED.1),
            expected: "no value beside study.seeds".to_owned(),
            got: shown(got),
            origin: origin.to_owned(),
        }
    }

    fn check_folders(&self, arms: &[Arm]) -> Result<(), TrainError> {
        let twice = (1..arms.len()).find(|&i| arms[..i].iter().any(|arm| arm.folder == arms[i].folder));
        let Some(second) = twice else { return Ok(()) };
        let expected = format!(
            "a name that differs from those of other arms in more than signs and case ({})",
            arms[second].folder
        );
        Err(self.error("arm.name", &expected, Some(&Value::String(arms[second].name.clone()))))
    }
}

/// A section with one key.
fn section(name: &str, key: &str, value: Value) -> Table {
    Table::from_iter([(name.to_owned(), Value::Table(Table::from_iter([(key.to_owned(), value)])))])
}

/// A value as a part of a name.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| shown(value), str::to_owned)
}

/// Letters and digits in lower case, with a hyphen for whatever stands between them: a name on any file system.
fn folder_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Checks that an arm is evaluated on the windows of the first, one by one.
fn same_windows(first: &Arm, arm: &Arm) -> Result<(), TrainError> {
    let (Some(a), Some(b)) = (first.runs.first(), arm.runs.first()) else { return Ok(()) };
    let differs = |name: &str, expected, got| differs(first, arm, name, expected, got);
    if a.train.seq_len != b.train.seq_len {
        return Err(differs("train.seq_len", a.train.seq_len.to_string(), b.train.seq_len.to_string()));
    }
    if a.data.valid != b.data.valid {
        return Err(differs("data.valid", format!("{:?}", a.data.valid), format!("{:?}", b.data.valid)));
    }
    // Without data.valid, the windows come from the training text.
    if a.data.valid.is_empty() && a.data.train != b.data.train {
        return Err(differs("data.train", format!("{:?}", a.data.train), format!("{:?}", b.data.train)));
    }
    Ok(())
}

fn differs(first: &Arm, arm: &Arm, name: &str, expected: String, got: String) -> TrainError {
    TrainError::Arm {
        arm: arm.name.clone(),
        source: Box::new(TrainError::Setting {
            name: name.to_owned(),
            expected,
            got,
            origin: format!("arm {} is evaluated on other windows", first.name),
        }),
    }
}

/// What may make other tokens of the same text, the likeliest first.
const TOKENIZATION: [&str; 7] =
    ["data.tokenizer", "data.bos", "data.text_field", "data.strict", "model.from", "model.vocab_size", "data.train"];

/// That an arm is evaluated on other tokens than the first, with the setting that makes the difference.
///
/// # Errors
/// Settings that cannot be written.
pub(super) fn other_tokens(first: &Arm, arm: &Arm) -> Result<TrainError, TrainError> {
    let entries = |arm: &Arm| arm.runs.first().map(Settings::entries).transpose().map(Option::unwrap_or_default);
    let (a, b) = (entries(first)?, entries(arm)?);
    let name = TOKENIZATION.into_iter().find(|&name| a.get(name) != b.get(name)).unwrap_or("data.valid");
    let value = |entries: &BTreeMap<String, String>| entries.get(name).cloned().unwrap_or_else(|| "none".to_owned());
    Ok(differs(first, arm, name, value(&a), value(&b)))
}
