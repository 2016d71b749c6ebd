//! Completions, the manual, and what every verb says of itself.

use crate::place::Place;

const VERBS: [&str; 16] = [
    "pretrain",
    "generate",
    "eval",
    "export",
    "data prepare",
    "tokenizer train",
    "inspect",
    "report",
    "study",
    "bench",
    "devices",
    "doctor",
    "completions",
    "man",
    "schedule dump",
    "schedule diff",
];

#[test]
fn every_verb_has_an_example() {
    let place = Place::new();
    for verb in VERBS {
        let help = place.run(&format!("{verb} --help")).succeeded().stdout();
        let example = help.lines().any(|line| line.contains("evenkeel ") && !line.starts_with("Usage"));
        assert!(help.contains("Example") && example, "{verb}: expected an example, got\n{help}");
    }
    // And none is left out above.
    let help = place.run("--help").succeeded().stdout();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    for verb in commands.lines().take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().next().unwrap())
    {
        assert!(verb == "help" || VERBS.iter().any(|known| known.split(' ').next() == Some(verb)), "{verb}");
    }
}

#[test]
fn completions_know_verbs_and_options() {
    let place = Place::new();
    for (shell, part) in [
        ("bash", "complete -F _evenkeel"),
        ("zsh", "#compdef evenkeel"),
        ("fish", "complete -c evenkeel"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[evenkeel]"),
    ] {
        let script = place.run(&format!("completions {shell}")).succeeded().stdout();
        for part in [part, "pretrain", "resume", "max-time"] {
            assert!(script.contains(part), "{shell}: expected {part}, got\n{script}");
        }
    }
    place.run("completions tcsh").refused(&[]);
}

#[test]
fn the_manual_has_a_page_for_every_verb() {
    let place = Place::new();
    let page = place.run("man").succeeded().stdout();
    assert!(page.contains(".TH evenkeel 1") && page.contains("pretrain"), "{page}");
    place.run("man --out pages").succeeded();
    let pages = place.list("pages");
    for verb in VERBS {
        let name = format!("evenkeel-{}.1", verb.replace(' ', "-"));
        assert!(pages.contains(&name), "expected {name}, got {pages:?}");
    }
    let page = String::from_utf8(place.read("pages/evenkeel-pretrain.1")).unwrap();
    assert!(page.contains("optimizer.lr") && page.contains("Examples:"), "{page}");
    place.run("man --out tiny.toml").refused(&["tiny.toml"]);
}
