//! Writing the little XML that libvirt is told, with every value escaped.

use std::fmt::{Display, Write};

/// An element under construction, two blanks deeper for each parent.
pub struct Xml {
    text: String,
    open: Vec<&'static str>,
}

impl Xml {
    pub fn new() -> Self {
        Self { text: String::new(), open: Vec::new() }
    }

    /// `<name a='1' b='2'>…</name>` around what `inside` writes.
    pub fn element(
        &mut self,
        name: &'static str,
        attributes: &[(&str, &dyn Display)],
        inside: impl FnOnce(&mut Self),
    ) {
        self.begin(name, attributes);
        self.text.push_str(">\n");
        self.open.push(name);
        inside(self);
        self.open.pop();
        self.indent();
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    /// `<name a='1'/>`
    pub fn empty(&mut self, name: &'static str, attributes: &[(&str, &dyn Display)]) {
        self.begin(name, attributes);
        self.text.push_str("/>\n");
    }

    /// `<name a='1'>text</name>`
    pub fn text(&mut self, name: &'static str, attributes: &[(&str, &dyn Display)], text: impl Display) {
        self.begin(name, attributes);
        self.text.push('>');
        self.text.push_str(&escape(&text.to_string()));
        self.text.push_str("</");
        self.text.push_str(name);
        self.text.push_str(">\n");
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        for (key, value) in attributes {
            // Writing to a String does not fail.
            let _ = write!(self.text, " {key}='{}'", escape(&value.to_string()));
        }
    }

    fn indent(&mut self) {
        for _ in &self.open {
            self.text.push_str("  ");
        }
    }
}

/// XML 1.0 knows no way to write most control characters, so they are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// The value of an attribute in an element that [`Xml`] wrote and libvirt gave back: both quotes are possible, and
/// the values we look for hold nothing that is escaped.
pub fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = element;
    loop {
        let at = rest.find(name)?;
        let before = rest[..at].chars().next_back();
        let after = &rest[at + name.len()..];
        if before.is_some_and(char::is_whitespace)
            && let Some(value) = after.strip_prefix('=')
            && let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"'))
        {
            return value[1..].split(quote).next();
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_stay_inside_their_quotes() {
        let mut xml = Xml::new();
        xml.element("a", &[("b", &"'/><evil x='")], |xml| {
            xml.text("c", &[], "1 < 2 & \"3\"\u{7}");
            xml.empty("d", &[("n", &7)]);
        });
        assert_eq!(
            xml.finish(),
            "<a b='&apos;/&gt;&lt;evil x=&apos;'>\n  <c>1 &lt; 2 &amp; &quot;3&quot;</c>\n  <d n='7'/>\n</a>\n"
        );
    }

    #[test]
    fn attributes_are_found_by_their_whole_name() {
        let element = "<vm xmlns=\"urn:x\" grid='no' id='v1' volume=\"web-v1\"/>";
        assert_eq!(attribute(element, "id"), Some("v1"));
        assert_eq!(attribute(element, "volume"), Some("web-v1"));
        assert_eq!(attribute(element, "seed"), None);
        assert_eq!(attribute("", "id"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_ends_a_value(value in ".*") {
            let mut xml = Xml::new();
            xml.empty("e", &[("v", &value)]);
            let text = xml.finish();
            prop_assert_eq!(text.matches('\'').count(), 2);
            prop_assert_eq!(text.matches('<').count(), 1);
            prop_assert_eq!(text.matches('>').count(), 1);
        }
    }
}
