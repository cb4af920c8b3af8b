//! Files of variables, and what of them counts.

use super::*;

fn check(text: &str) -> Result<Option<String>, DotenvError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    fs::write(&path, text).unwrap();
    read_dotenv(&path)
}

#[test]
fn accepts_comments_quotes_and_a_byte_order_mark() {
    let text = check("\u{feff}# first\nA=1\nB=\"two words\"\n\nexport C='x'\n").unwrap();
    assert!(text.unwrap().starts_with("# first"));
}

#[test]
fn names_the_malformed_line_and_hides_its_text() {
    let error = check("A=1\n# note\nTOKEN=very secret\nB=2\n").unwrap_err();
    let text = error.to_string();
    assert!(text.contains(".env line 3:"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn names_the_line_where_an_open_quote_begins() {
    let error = check("A=1\nB=\"open\nC=3\n").unwrap_err();
    assert!(error.to_string().contains(".env line 2:"), "{error}");
}

#[test]
fn counts_lines_across_values_that_span_them() {
    let error = check("# x y\nA=\"one\ntwo\"\nB=x y\nC=1\n").unwrap_err();
    assert!(error.to_string().contains(".env line 4:"), "{error}");
}

/// Seen red with: `malformed_line` answering the line before.
#[test]
fn any_text_is_read_or_its_line_is_named() {
    use proptest::prelude::*;
    let line = "(export )?[A-Za-z_0-9 .-]{0,6}[=:]?[\"'$#\\\\ {}a-z\u{e9}\u{0}]{0,8}";
    let text = proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"));
    let mut runner = proptest::test_runner::TestRunner::default();
    let held = runner.run(&prop_oneof![text, any::<String>()], |text| {
        match check(&text) {
            Ok(_) => {}
            Err(DotenvError::Malformed { line, .. }) => {
                prop_assert!((1..=text.lines().count().max(1)).contains(&line), "{line}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    });
    held.unwrap();
}

/// Mutations: what is set that gives way to the file; a line that stands twice of which the last counts.
#[test]
fn what_is_read_again_is_the_file_as_it_is_now_behind_what_was_set() {
    let started: Environment = [("A", "set"), ("EMPTY", "")].into_iter().collect();
    let mut now = started.clone();
    let file = "A=file\nEMPTY=file\nB=new\nB=twice\n";
    now.add(Path::new(".env"), file).unwrap();
    assert_eq!((now.get("A"), now.get("B")), (Some("set"), Some("new")));
    assert_eq!(now.get("EMPTY"), None);
    assert_eq!(started.get("B"), None);
}

/// Mutation: what was there at the start counts as never having been.
#[test]
fn a_file_that_is_gone_or_empty_now_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings");
    let named = [
        "x".into(),
        "--env-file".into(),
        path.clone().into_os_string(),
    ];
    let named = || {
        clap::Command::new("x")
            .arg(file_flag())
            .get_matches_from(named.clone())
    };
    let none = clap::Command::new("x").arg(file_flag());
    let none = none.get_matches_from(["x"]);
    let started = Environment::default();
    // The tests' directory has no `.env`.
    let gone = read_again(&none, &started, Some(Path::new(".env"))).unwrap_err();
    assert!(matches!(gone, DotenvError::Unreadable { .. }), "{gone}");
    assert!(read_again(&none, &started, None).is_ok());
    for (text, holds) in [("\n", false), ("A=b\n", true)] {
        fs::write(&path, text).unwrap();
        let read = read_again(&named(), &started, Some(&path));
        assert_eq!(read.is_ok(), holds, "{read:?}");
    }
}

#[test]
fn a_missing_file_is_nothing_to_report() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read_dotenv(&dir.path().join(".env")).unwrap().is_none());
}

#[test]
fn a_directory_named_like_the_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_dotenv(dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

/// Not a test of its own: loading changes the environment of a whole process.
#[test]
#[ignore = "run as a child process by the_real_environment_wins_over_the_file"]
fn child_that_loads() {
    let named = std::env::var("AS_NAMED").ok();
    let arguments = named.map(|path| vec!["x".to_owned(), "--env-file".to_owned(), path]);
    let matches = clap::Command::new("x")
        .arg(file_flag())
        .get_matches_from(arguments.unwrap_or_default());
    if let Some(path) = load_dotenv(&matches).unwrap() {
        println!("\nloaded {}", path.display());
    }
    let environment = Environment::current();
    for (name, value) in environment.starting_with("WEIR_CHILD_") {
        println!("{name}={value}");
    }
}

/// What the child shows of itself, started in this directory.
fn loaded(dir: &Path, named: &str) -> (bool, String) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    if !named.is_empty() {
        child.env("AS_NAMED", named);
    }
    let output = child
        .args(["--exact", "env::tests::child_that_loads"])
        .args(["--ignored", "--nocapture"])
        .current_dir(dir)
        .env("WEIR_CHILD_A", "real")
        .output()
        .unwrap();
    let shown = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&shown).into_owned(),
    )
}

/// Seen red with: `.env` read where another file is named; a named file that is missing passed over.
#[test]
fn a_named_file_comes_in_place_of_the_usual_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".env"), "WEIR_CHILD_B=usual\n").unwrap();
    fs::write(dir.path().join("agent.env"), "WEIR_CHILD_C=named\n").unwrap();
    let (_, shown) = loaded(dir.path(), "agent.env");
    let expected = "\nloaded agent.env\nWEIR_CHILD_A=real\nWEIR_CHILD_C=named\n";
    assert!(shown.contains(expected), "{shown}");
    let (well, shown) = loaded(dir.path(), "none.env");
    assert!(!well && shown.contains("none.env"), "{shown}");
}

#[test]
fn the_real_environment_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\u{feff}WEIR_CHILD_A=file\nWEIR_CHILD_B=\"from file\"\n";
    fs::write(dir.path().join(".env"), text).unwrap();
    let (_, shown) = loaded(dir.path(), "");
    let expected = "\nloaded .env\nWEIR_CHILD_A=real\nWEIR_CHILD_B=from file\n";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let environment: Environment = [("A", ""), ("B", "b")].into_iter().collect();
    assert_eq!(environment.get("A"), None);
    assert_eq!(environment.get("B"), Some("b"));
}
