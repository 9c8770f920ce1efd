//! Names from files, as a person is shown them.
//!
//! A file, a class or a case may be called anything. A terminal obeys some characters instead of showing them, and a
//! spreadsheet computes some cells instead of showing them; here both become something to look at.

/// Stands for what must not be shown.
const HIDDEN: char = '\u{fffd}';

/// `text` on one line without what a terminal would obey.
pub fn line(text: &str) -> String {
    text.chars().map(|letter| if is_obeyed(letter) { HIDDEN } else { letter }).collect()
}

/// `text` without what a terminal would obey but line ends.
pub fn lines(text: &str) -> String {
    text.chars().map(|letter| if is_obeyed(letter) && letter != '\n' { HIDDEN } else { letter }).collect()
}

/// JSON `text` with what a terminal would obey written as `\u....`: it reads back the same. Outside of its strings JSON
/// holds no such character but white space.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        // All of them are below U+10000, which is what four digits hold.
        match is_obeyed(letter) && !matches!(letter, '\n' | '\r' | '\t') {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(letter))),
            false => escaped.push(letter),
        }
    }
    escaped
}

/// A CSV field (RFC 4180). What a spreadsheet would take for a formula gets an apostrophe before it, which spreadsheets
/// know as the mark of a text.
pub fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// At most `most` characters of `text`, and dots for the rest: a name of a megabyte is no name.
pub fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Control characters (of C1, too, which some terminals obey as if they came after an escape), line and paragraph
/// separators, and marks that turn the direction of writing, with which one name passes for another.
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "a\u{1b}[2J\u{9b}1m\u{7f}\u{202e}b\nc\td";

    #[test]
    fn nothing_is_left_to_obey() {
        assert_eq!(line(ODD), "a\u{fffd}[2J\u{fffd}1m\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(lines(ODD).lines().count(), 2);
        assert_eq!(line("Größe 你好 é"), "Größe 你好 é");
    }

    #[test]
    fn json_reads_back_the_same() {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "name": ODD })).unwrap();
        let escaped = json(&text);
        assert!(escaped.chars().all(|letter| letter == '\n' || !is_obeyed(letter)), "{escaped:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap()["name"], ODD);
    }

    #[test]
    fn no_cell_is_a_formula() {
        for (text, field) in [
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-a", "'-a"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\rx", "\"'\rx\""),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a=b", "a=b"),
            ("", ""),
        ] {
            assert_eq!(csv(text), field);
        }
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        assert_eq!(short("ééé", 2), "éé...");
        assert_eq!(short("éé", 2), "éé");
    }
}
