//! Names of agents, several at once: `*` stands for any characters, also none; everything else for itself.

use crate::ingest::MAX_AGENT_CHARS;

/// Whether `name` is one of those that `pattern` is for. Takes time in proportion to both lengths at most.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Whether this can be a pattern: what could be a name, stars included.
pub fn is_pattern(text: &str) -> bool {
    let chars = text.chars().count();
    (1..=MAX_AGENT_CHARS).contains(&chars) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when a prefix counts as a whole name, or two parts may share characters.
    #[test]
    fn a_pattern_is_for_whole_names() {
        for (pattern, name, expected) in [
            ("press-1", "press-1", true),
            ("press-1", "press-12", false),
            ("press-1", "a-press-1", false),
            ("press-*", "press-1", true),
            ("press-*", "press-", true),
            ("press-*", "press", false),
            ("*", "anything", true),
            ("*-a", "b-a", true),
            ("*-a", "b-a-c", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("ä*", "äö", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    /// Stars that could be matched in very many ways are not tried in all of them.
    #[test]
    fn a_hostile_pattern_costs_no_time() {
        let pattern = "a*".repeat(120) + "b";
        assert!(!matches(&pattern, &"a".repeat(256)));
    }
}
