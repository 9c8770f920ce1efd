//! Text for a page. Whatever comes from a file goes through [`escape`].
use base64::{base64, sha256};

use crate::shown;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// `text` as what is seen of it, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in shown::line(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// The same with line ends kept.
pub fn escape_lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

/// A whole page around `body`, which is HTML. `refresh` is after how many seconds a browser looks again.
///
/// The policy names style and script by their digests and pictures as part of the page; all else is forbidden, so that
/// nothing in a name could run or load anything even if it came through unescaped.
pub fn document(title: &str, refresh: Option<u32>, body: &str) -> String {
    let [style, script] = [STYLE, SCRIPT].map(|text| base64(&sha256(text.as_bytes())));
    let refresh =
        refresh.map_or_else(String::new, |seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
         style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         {refresh}<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n\
         </body>\n</html>\n",
        escape(title)
    )
}

/// A PNG as a `data:` address.
pub fn data_address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(png))
}

/// Rows of a table: a header, and cells that are HTML. Columns after the first `left` ones are numbers.
pub fn table(header: &[&str], left: usize, rows: impl Iterator<Item = Vec<String>>) -> String {
    let class = |column: usize| if column < left { "" } else { " class=\"n\"" };
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        let cells = cells.enumerate().map(|(at, cell)| format!("<{tag}{}>{cell}</{tag}>", class(at)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let head = cells("th", &mut header.iter().map(|cell| escape(cell)));
    let body: String = rows.map(|row| cells("td", &mut row.into_iter())).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead>{head}</thead>\n<tbody>{body}</tbody></table></div>\n"
    )
}

/// Names and values beside each other; values are HTML.
pub fn list(entries: &[(&str, String)]) -> String {
    let entries = entries.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{value}</dd>\n", escape(name)));
    format!("<dl>\n{}</dl>\n", entries.collect::<String>())
}

mod base64 {
    use sha2::{Digest, Sha256};

    pub fn sha256(bytes: &[u8]) -> Vec<u8> {
        Sha256::digest(bytes).to_vec()
    }

    /// RFC 4648, with padding.
    pub fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let letter = LETTERS[(group >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= chunk.len() { letter as char } else { '=' });
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let hostile = "</script><script>alert(1)</script>\" onload='x' &amp;\u{202e}\u{1b}[2J";
        let escaped = escape(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']), "{escaped}");
        assert!(escaped.contains("&amp;amp;"));
        assert_eq!(escape("Größe 1"), "Größe 1");
    }

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_standard() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_policy_names_the_script_that_is_there() {
        let page = document("t", Some(30), "");
        assert!(page.contains("content=\"30\"") && !page.contains("unsafe"));
        // An end tag within would end it early.
        assert!(!SCRIPT.contains("</") && !STYLE.contains("</"));
    }
}
