//! What a person reads on the appliance's own screen, read from its serial log.

use anyhow::{Context, Result};

/// The three things that make a stranger's first login safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The site's authority: SHA-256 of its certificate, lower-case hex.
    pub ca_sha256: String,
    /// Absent once a password is set.
    pub one_time_code: Option<String>,
}

/// Reads the last introduction on a console, which is drawn anew with escape
/// sequences whenever it changes.
pub fn introduction(console: &str) -> Result<Introduction> {
    let text = plain(console);
    let begin =
        text.rfind("Fingerprint").context("there is no fingerprint on the appliance's console yet")?;
    let mut lines = text[begin..].split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let fingerprint = lines.next().and_then(|line| line.split_once("SHA256")).map(|(_, hex)| hex.trim());
    let ca_sha256: String = fingerprint.unwrap_or_default().replace(':', "").to_lowercase();
    let whole = ca_sha256.len() == 64 && ca_sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then_some(()).context("the fingerprint on the appliance's console is cut short")?;
    let next = lines.next().context("the appliance's console is cut short after the fingerprint")?;
    let code = next.strip_prefix("One-time code").and_then(|rest| rest.split_whitespace().next());
    Ok(Introduction { ca_sha256, one_time_code: code.map(str::to_string) })
}

/// Without escape sequences (ECMA-48 CSI) and carriage returns.
pub fn plain(console: &str) -> String {
    let mut plain = String::with_capacity(console.len());
    let mut rest = console;
    while let Some(escape) = rest.find('\x1b') {
        plain.push_str(&rest[..escape]);
        rest = &rest[escape + 1..];
        if let Some(sequence) = rest.strip_prefix('[') {
            // Parameters, then one final byte from @ to ~.
            rest = sequence.trim_start_matches(|letter: char| matches!(letter, ' '..='?'));
            let mut letters = rest.chars();
            letters.next();
            rest = letters.as_str();
        }
    }
    plain.push_str(rest);
    plain.replace('\r', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: &str = "boot\r\n\x1b[2J\x1b[HElisandra\r\n\r\nWeb page      https://10.77.0.1/\r\n\
        Fingerprint   SHA256 AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99\r\n\
        One-time code ABCD-2345   (sets the first password, on the page)\r\n";
    const HEX: &str = "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899";

    #[test]
    fn fingerprint_and_code_are_read_from_the_screen() {
        let read = introduction(SCREEN).unwrap();
        assert_eq!(read, Introduction { ca_sha256: HEX.into(), one_time_code: Some("ABCD-2345".into()) });
    }

    #[test]
    fn the_last_drawing_counts() {
        let later =
            SCREEN.replace("One-time code ABCD-2345   (sets the first password, on the page)", "Log in.");
        assert_eq!(introduction(&format!("{SCREEN}{later}")).unwrap().one_time_code, None);
    }

    #[test]
    fn a_screen_in_the_middle_of_being_drawn_is_not_read() {
        for end in 0..SCREEN.len() {
            if let Ok(read) = introduction(&SCREEN[..end]) {
                assert_eq!(
                    (read.ca_sha256.as_str(), read.one_time_code.as_deref()),
                    (HEX, Some("ABCD-2345"))
                );
            }
        }
        assert!(introduction("").is_err());
    }
}
