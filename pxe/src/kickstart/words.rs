//! Splitting a line into words and quoting a word, as Python's shlex does it for Anaconda.

/// The words of a line without its comment; `None` when a quote is not closed.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => break,
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        // Inside double quotes a backslash only escapes these two.
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// One word that [`split`] gives back as it was. Control characters (a line's end above all) have
/// no place in a kickstart line and become spaces.
pub(super) fn quote(value: &str) -> String {
    let plain =
        !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.:_-+=@,%".contains(&b));
    if plain {
        return value.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if breaks_lines(c) => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A comment's text on one line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if breaks_lines(c) { ' ' } else { c }).collect()
}

// Python's str.splitlines also ends lines at these two.
fn breaks_lines(c: char) -> bool {
    c.is_control() || c == '\u{2028}' || c == '\u{2029}'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        assert_eq!(split(r#"a --b="c d" 'e"f' g\ h "" # i"#).unwrap(), ["a", "--b=c d", "e\"f", "g h", ""]);
        assert_eq!(split(r#""a\"b\\c\d""#).unwrap(), [r#"a"b\c\d"#]);
        assert_eq!(split("a \"b"), None);
        assert_eq!(split("a \\"), None);
    }

    proptest! {
        #[test]
        fn a_quoted_word_comes_back(value in "[^\\p{Cc}\u{2028}\u{2029}]*") {
            prop_assert_eq!(split(&quote(&value)), Some(vec![value]));
        }

        #[test]
        fn whatever_is_quoted_stays_one_word_on_one_line(value in ".*|[\\n\\r\"' \\\\#%]*") {
            let quoted = quote(&value);
            prop_assert!(!quoted.contains(['\n', '\r']));
            prop_assert_eq!(split(&quoted).map(|words| words.len()), Some(1));
        }
    }
}
