//! What is shown, and when it is another.

use super::*;

fn shown(credential: &Credential) -> Result<Option<String>, CredentialError> {
    let mut metadata = MetadataMap::new();
    credential.show(&mut metadata)?;
    let value = metadata.get("authorization");
    Ok(value.map(|value| value.to_str().unwrap().to_owned()))
}

/// Red when a file is read once, or a line end becomes part of the token.
#[test]
fn a_token_in_a_file_is_the_one_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let credential = Credential::new(Secret::new("old"), Some(path.clone()));
    let missing = shown(&credential).unwrap_err().to_string();
    assert!(missing.contains("WEIR_AGENT_SINK_TOKEN_FILE"), "{missing}");
    for token in ["weir_agent_1", "weir_agent_2"] {
        fs::write(&path, format!("{token}\n")).unwrap();
        assert_eq!(shown(&credential).unwrap(), Some(format!("Bearer {token}")));
    }
    for bad in ["", "two\nlines", &"x".repeat(5000)] {
        fs::write(&path, bad).unwrap();
        let error = shown(&credential).unwrap_err();
        assert!(matches!(error, CredentialError::NoToken(_)), "{error}");
    }
    assert_eq!(shown(&Credential::default()).unwrap(), None);
    let set = Credential::new(Secret::new("weir_agent_3"), None);
    assert_eq!(shown(&set).unwrap().unwrap(), "Bearer weir_agent_3");
    assert!(!format!("{set:?}").contains("weir_agent_3"));
}

/// Red when a file that is away for a moment counts as another token.
#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_of_another_token_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "one").unwrap();
    let credential = Credential::TokenFile(path.clone());
    let seen = credential.seen();
    let wait = Duration::from_secs(10);
    let waited = |credential: Credential, seen: Option<Secret>| async move {
        tokio::time::timeout(wait, credential.changed(&seen)).await
    };
    waited(credential.clone(), seen.clone()).await.unwrap_err();
    fs::remove_file(&path).unwrap();
    waited(credential.clone(), seen.clone()).await.unwrap_err();
    fs::write(&path, "two").unwrap();
    waited(credential, seen.clone()).await.unwrap();
    let set = Credential::Token(Secret::new("x"));
    waited(set, None).await.unwrap_err();
}
